// The posterior of the personal weights of one adgroup, whose logits are linear in them: Newton steps from the prior mean to
// the mode, and the diagonal of the covariance there, as shared/methods/posterior.ts states them. In double precision.
#pragma once
#include <math.h>
#include <stddef.h>
#include <algorithm>
#include <vector>

// Labelled rows. A logit is that of zero weights plus the slopes times the weights.
struct LabelledRows {
  size_t rowCount, count;
  const float* slopes;  // [rowCount, count]
  const float* logits;
  const float* clicks;
  const float* impressions;
  bool areValues;
};

struct NormalPrior {
  const float* means;  // [count]
  const float* precisions;
  // The means move with the mean of the rows' fields; null where they do not.
  const float* fieldWeights;  // [fieldWidth, count]
  const float* fields;        // [rowCount, fieldWidth]
  size_t fieldWidth;
  double shrinkage;  // Impressions by which that mean is shrunk.
};

struct Posterior {
  LabelledRows rows;
  NormalPrior prior;
  size_t stepCount;
  double factor;  // Of the prior variances.
  double stepLengthMax, precisionMin;
  std::vector<double> means, weights, slope, matrix, row;

  void solve(float* mode, float* variances) {
    const size_t n = rows.count;
    movePriorMeans();
    weights = means;
    row.assign(n, 0);
    for (size_t step = 0; step < stepCount && rows.rowCount > 0; ++step) {
      addEvidence(true);
      factorise();
      substitute(slope.data());
      double furthest = stepLengthMax;
      for (size_t r = 0; r < rows.rowCount; ++r) furthest = std::max(furthest, fabs(product(r, slope)));
      for (size_t k = 0; k < n; ++k) weights[k] -= stepLengthMax / furthest * slope[k];
    }
    addEvidence(stepCount > 0);
    factorise();
    for (size_t k = 0; k < n; ++k) {
      mode[k] = float(weights[k]);
      variances[k] = float(factor * inverseAt(k));
    }
  }

 private:
  double product(size_t r, const std::vector<double>& x) const {
    double sum = 0;
    for (size_t k = 0; k < rows.count; ++k) sum += rows.slopes[r * rows.count + k] * x[k];
    return sum;
  }

  void movePriorMeans() {
    const size_t n = rows.count;
    means.assign(prior.means, prior.means + n);
    if (prior.fieldWeights == nullptr) return;
    double total = prior.shrinkage;
    for (size_t r = 0; r < rows.rowCount; ++r) total += rows.impressions[r];
    for (size_t f = 0; f < prior.fieldWidth; ++f) {
      double pooled = 0;
      for (size_t r = 0; r < rows.rowCount; ++r) pooled += double(rows.impressions[r]) * prior.fields[r * prior.fieldWidth + f];
      for (size_t k = 0; k < n; ++k) means[k] += pooled / total * prior.fieldWeights[f * n + k];
    }
  }

  // The slope of the negative log posterior at the weights, and the lower half of its curvature.
  void addEvidence(bool readsRows) {
    const size_t n = rows.count;
    slope.assign(n, 0);
    matrix.assign(n * n, 0);
    for (size_t r = 0; readsRows && r < rows.rowCount; ++r) {
      const double z = rows.logits[r] + product(r, weights);
      const double p = rows.areValues ? z : 1 / (1 + exp(-z));
      const double miss = factor * (rows.impressions[r] * p - rows.clicks[r]);
      const double curvature = factor * rows.impressions[r] * (rows.areValues ? 1 : p * (1 - p));
      for (size_t k = 0; k < n; ++k) row[k] = rows.slopes[r * n + k];
      for (size_t k = 0; k < n; ++k) {
        if (row[k] == 0) continue;
        slope[k] += miss * row[k];
        const double weighted = curvature * row[k];
        for (size_t j = 0; j <= k; ++j) matrix[k * n + j] += weighted * row[j];
      }
    }
    double trace = 0;
    for (size_t k = 0; k < n; ++k) trace += matrix[k * n + k];
    for (size_t k = 0; k < n; ++k) {
      slope[k] += prior.precisions[k] * (weights[k] - means[k]);
      matrix[k * n + k] += prior.precisions[k] + precisionMin * trace;
    }
  }

  // The matrix as L L', in place (Cholesky).
  void factorise() {
    const size_t n = rows.count;
    for (size_t i = 0; i < n; ++i) {
      double* own = &matrix[i * n];
      for (size_t j = 0; j <= i; ++j) {
        const double* other = &matrix[j * n];
        double sum = own[j];
        for (size_t k = 0; k < j; ++k) sum -= own[k] * other[k];
        own[j] = i == j ? sqrt(sum) : sum / other[j];
      }
    }
  }

  void substitute(double* x) const {
    const size_t n = rows.count;
    for (size_t i = 0; i < n; ++i) {
      for (size_t k = 0; k < i; ++k) x[i] -= matrix[i * n + k] * x[k];
      x[i] /= matrix[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
      x[i] /= matrix[i * n + i];
      for (size_t k = 0; k < i; ++k) x[k] -= matrix[i * n + k] * x[i];
    }
  }

  // An element of the diagonal of the inverse: the square of a column of the inverse of L.
  double inverseAt(size_t column) {
    const size_t n = rows.count;
    double sum = 0;
    for (size_t i = column; i < n; ++i) {
      double x = i == column ? 1 : 0;
      for (size_t k = column; k < i; ++k) x -= matrix[i * n + k] * row[k];
      row[i] = x / matrix[i * n + i];
      sum += row[i] * row[i];
    }
    return sum;
  }
};
