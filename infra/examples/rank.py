"""Ranks two adgroups with a running `qianmo serve`: python3 rank.py http://127.0.0.1:8080 '{"context": ...}'"""

import json
import sys
import urllib.request

url, body = sys.argv[1], sys.argv[2].encode()
headers = {"Content-Type": "application/json", "Qianmo-Deadline-Ms": "500"}
with urllib.request.urlopen(urllib.request.Request(url + "/v1/rank", body, headers), timeout=1) as answer:
    ranked = json.load(answer)
for place in ranked["order"]:
    print(place, round(ranked["expected"][place], 6), ranked["evidence"]["supportRows"][place])
