// The part of TensorFlow Lite's C++ API that printed programs use, with the names and types of the real headers. Its
// "model" is a text: tensors, the bytes that the input must have, and the answers to them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType { kTfLiteNoType = 0, kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt16 = 7, kTfLiteInt8 = 9 };
struct TfLiteIntArray { int size; int data[8]; };
struct TfLiteQuantizationParams { float scale; int32_t zero_point; };
union TfLitePtrUnion { float* f; int8_t* int8; uint8_t* uint8; int16_t* i16; };
struct TfLiteTensor {
  TfLiteType type;
  TfLitePtrUnion data;
  TfLiteIntArray* dims;
  TfLiteQuantizationParams params;
  std::vector<char> bytes;
  std::vector<char> expected;
};

namespace tflite {

class FlatBufferModel {
 public:
  static std::unique_ptr<FlatBufferModel> BuildFromFile(const char* name) {
    std::unique_ptr<FlatBufferModel> model(new FlatBufferModel);
    std::ifstream file(name);
    int type, dimensions, size, value;
    while (file >> type >> dimensions) {
      TfLiteTensor* tensor = new TfLiteTensor;
      tensor->type = static_cast<TfLiteType>(type);
      tensor->dims = new TfLiteIntArray{dimensions, {}};
      for (int i = 0; i < dimensions; ++i) file >> tensor->dims->data[i];
      file >> tensor->params.scale >> tensor->params.zero_point >> size;
      for (int i = 0; i < size; ++i) file >> value, tensor->expected.push_back(static_cast<char>(value));
      tensor->bytes.resize(size);
      tensor->data.int8 = reinterpret_cast<int8_t*>(tensor->bytes.data());
      model->tensors.push_back(tensor);
    }
    return model->tensors.empty() ? nullptr : std::move(model);
  }
  std::vector<TfLiteTensor*> tensors;
};

class Interpreter {
 public:
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus SetNumThreads(int) { return kTfLiteOk; }
  template <class T>
  T* typed_input_tensor(int) { return reinterpret_cast<T*>(tensors[0]->bytes.data()); }
  const TfLiteTensor* input_tensor(size_t) const { return tensors[0]; }
  const std::vector<int>& outputs() const { return indices; }
  const TfLiteTensor* output_tensor(size_t i) const { return tensors[i + 1]; }
  TfLiteStatus Invoke() {
    if (tensors[0]->bytes != tensors[0]->expected) return kTfLiteError;
    for (size_t i = 1; i < tensors.size(); ++i) std::copy(tensors[i]->expected.begin(), tensors[i]->expected.end(), tensors[i]->bytes.begin());
    return kTfLiteOk;
  }
  std::vector<TfLiteTensor*> tensors;
  std::vector<int> indices;
};

namespace ops::builtin {
class BuiltinOpResolver {};
class BuiltinOpResolverWithoutDefaultDelegates {};
}  // namespace ops::builtin

class InterpreterBuilder {
 public:
  template <class Resolver>
  InterpreterBuilder(const FlatBufferModel& model, const Resolver&) : model_(model) {}
  TfLiteStatus operator()(std::unique_ptr<Interpreter>* made) {
    made->reset(new Interpreter);
    (*made)->tensors = model_.tensors;
    (*made)->indices.resize(model_.tensors.size() - 1);
    return kTfLiteOk;
  }

 private:
  const FlatBufferModel& model_;
};

}  // namespace tflite
