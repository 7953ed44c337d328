"""Groups logs by task and orders each task's rows by time, with Apache Spark.

    spark-submit infra/examples/group_logs_spark.py \
        --logs 's3a://bucket/logs/*.csv' --out s3a://bucket/grouped --task adgroup --time time

The result is a folder of Parquet files for a config with `data.grouped: true`: all rows of a task are in one file,
one after another, and in order of time. `qianmo prepare` checks this order and does not sort the rows by task.
"""

import argparse

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

READERS = ("csv", "tsv", "json", "parquet")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logs", required=True, help="path, folder or glob of the logs")
    parser.add_argument("--out", required=True, help="folder for the Parquet files; an existing one is replaced")
    parser.add_argument("--task", required=True, action="append", help="a column of data.task; repeat for several")
    parser.add_argument("--time", required=True, help="the column of data.time")
    parser.add_argument("--format", choices=READERS, default="csv", help="format of the logs (csv)")
    parser.add_argument("--files", type=int, default=200, help="number of Parquet files (200)")
    return parser.parse_args()


def read(spark: SparkSession, path: str, log_format: str) -> DataFrame:
    """Columns of text files stay text, so that an id such as 007 keeps its zeros."""
    if log_format in ("csv", "tsv"):
        separator = "\t" if log_format == "tsv" else ","
        return spark.read.csv(path, header=True, sep=separator, quote='"', escape='"')
    return spark.read.json(path, primitivesAsString=True) if log_format == "json" else spark.read.parquet(path)


def seconds(frame: DataFrame, name: str):
    """A number, or a timestamp as seconds, as prepare reads the column of the time."""
    column = f"`{name}`"
    if dict(frame.dtypes)[name] in ("timestamp", "date"):
        return F.expr(f"try_cast(cast({column} AS timestamp) AS double)")
    return F.expr(f"coalesce(try_cast({column} AS double), try_cast(try_cast({column} AS timestamp) AS double))")


def grouped(frame: DataFrame, tasks: list[str], time: str, files: int) -> DataFrame:
    """Rows of equal time are ordered by their other columns, so that equal logs give equal files."""
    others = [name for name, kind in frame.dtypes if name not in tasks and not kind.startswith("map")]
    keys = [F.col(f"`{name}`") for name in tasks]
    order = [*keys, seconds(frame, time), *(F.col(f"`{name}`") for name in others)]
    return frame.repartition(files, *keys).sortWithinPartitions(*order)


def main():
    options = arguments()
    spark = (
        SparkSession.builder.appName("group-logs")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        .getOrCreate()
    )
    logs = read(spark, options.logs, options.format)
    grouped(logs, options.task, options.time, options.files).write.mode("overwrite").parquet(options.out)
    spark.stop()


if __name__ == "__main__":
    main()
