// A model built from its description: words, as `kernel-scorer.ts` writes them, and the arrays
// that they refer to by index. Everything is checked here, so that a request reads within bounds.
#pragma once
#include <memory>
#include <stdexcept>
#include <vector>
#include "model.h"

struct Array {
  const void* data;
  size_t count;  // Elements.
};

struct AlignedFloats {
  std::vector<float> room;
  float* data;
  explicit AlignedFloats(size_t count) : room(count + 16) {
    const uintptr_t address = (uintptr_t)room.data();
    data = room.data() + (64 - address % 64) % 64 / 4;
  }
};

class BuiltModel {
 public:
  BuiltModel(const Kernel* kernel, const int32_t* words, size_t wordCount, std::vector<Array> arrays);
  const Model* model() const { return &model_; }
  const Kernel* kernel() const { return kernel_; }

 private:
  int32_t word();
  int32_t count(int32_t max);
  const Array* array();
  const float* floats(size_t count);
  std::vector<int32_t> places(int32_t max, int32_t each);
  void readFields();
  void readParts();
  void readBlocks();
  void readTower();
  void readOutput();
  void readShifts();
  Products readProducts(std::vector<int32_t>* room);
  Layer readLayer(size_t inCount, bool hasRelu);
  void holds(int32_t index, size_t count) const;
  const Part* part(int32_t index, size_t count) const;
  void placeColumns();
  void allocateScratch();
  float* room(size_t count);
  size_t padded(size_t count) const;

  const Kernel* kernel_;
  const int32_t* words_;
  const int32_t* wordsEnd_;
  std::vector<Array> arrays_;
  Model model_{};
  std::vector<Field> fields_;
  std::vector<Part> parts_;
  std::vector<const uint8_t*> shards_;
  std::vector<Layer> hidden_, cross_;
  std::vector<Shift> shifts_;
  std::vector<int32_t> towerFields_, inputPlaces_, outputPlaces_;
  // Of each input column of the layers that read fields: the row of their weights.
  std::vector<int32_t> columnRows_;
  std::vector<std::unique_ptr<AlignedFloats>> rooms_;
};
