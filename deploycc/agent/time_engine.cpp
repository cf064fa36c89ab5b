// Times a TensorRT engine, one picture at a time, copies of input and output included, or shows its answer. The agent compiles this on boards
// whose TensorRT has neither a Python API nor a trtexec that keeps samples (DRIVE PX 2, TensorRT 3 and 4).
//
//   time_engine ENGINE INPUT RESULT WARMUP_S DURATION_S SAMPLES
//
// INPUT holds the picture's bytes in the type of the engine's input. RESULT gets a line for each fact, its fields
// separated by tabs:
//
//   tensorrt  MAJOR.MINOR.PATCH
//   device    CAPABILITY  NAME
//   warmup    PICTURES  NANOSECONDS
//   sample    START  LATENCY        in nanoseconds; START counts from the origin of CLOCK_MONOTONIC
//   layer     MILLISECONDS  NAME    mean over the pictures of a run of its own
//
//   time_engine ENGINE INPUT OUTPUTS
//
// runs one picture and writes what the engine answers: for each output a line NAME, tab, TYPE (as NumPy spells it), tab,
// BYTES; then that many bytes.

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <time.h>
#include <vector>

namespace {

const int kProfiledPictures = 20;

void fail(const std::string& what) {
  std::printf("[E] %s\n", what.c_str());
  std::fflush(stdout);
  std::exit(1);
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(std::string(what) + ": " + cudaGetErrorString(status));
}

class Logger : public nvinfer1::ILogger {
  void log(Severity severity, const char* message) override {
    if (severity == Severity::kERROR || severity == Severity::kINTERNAL_ERROR) {
      std::printf("[E] %s\n", message);
      std::fflush(stdout);
    }
  }
};

class Profiler : public nvinfer1::IProfiler {
 public:
  void reportLayerTime(const char* name, float milliseconds) override {
    for (Layer& layer : layers) {
      if (layer.name == name) {
        layer.total += milliseconds;
        return;
      }
    }
    const Layer layer = {name, milliseconds};
    layers.push_back(layer);
  }
  struct Layer {
    std::string name;
    double total;
  };
  std::vector<Layer> layers;
};

long long now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

std::vector<char> contents(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (!file) fail(std::string("cannot read ") + path);
  std::vector<char> data;
  char block[1 << 16];
  for (size_t count; (count = std::fread(block, 1, sizeof block, file)) > 0;) data.insert(data.end(), block, block + count);
  std::fclose(file);
  return data;
}

struct Type {
  const char* name;
  size_t bytes;
};

Type type_of(const nvinfer1::ICudaEngine& engine, int binding) {
  const nvinfer1::DataType type = engine.getBindingDataType(binding);
  if (type == nvinfer1::DataType::kHALF) return {"float16", 2};
  if (type == nvinfer1::DataType::kINT8) return {"int8", 1};
  if (static_cast<int>(type) == 3) return {"int32", 4};  // kINT32, which TensorRT 3 does not have
  return {"float32", 4};
}

size_t bytes_of(const nvinfer1::ICudaEngine& engine, int binding) {
  size_t bytes = type_of(engine, binding).bytes;
  const nvinfer1::Dims dims = engine.getBindingDimensions(binding);
  for (int i = 0; i < dims.nbDims; ++i) bytes *= dims.d[i];
  return bytes;
}

struct Binding {
  bool input;
  std::string name;
  const char* type;
  size_t bytes;
  void* host;
};

class Runner {
 public:
  Runner(nvinfer1::ICudaEngine& engine, const std::vector<char>& picture) {
    context_ = engine.createExecutionContext();
    if (!context_) fail("the engine gives no execution context");
    check(cudaStreamCreate(&stream_), "cudaStreamCreate");
    for (int i = 0; i < engine.getNbBindings(); ++i) {
      Binding binding = {engine.bindingIsInput(i), engine.getBindingName(i), type_of(engine, i).name, bytes_of(engine, i),
                         nullptr};
      check(cudaMallocHost(&binding.host, binding.bytes), "cudaMallocHost");
      void* device = nullptr;
      check(cudaMalloc(&device, binding.bytes), "cudaMalloc");
      if (binding.input) {
        if (picture.size() != binding.bytes)
          fail("the input " + binding.name + " takes " + std::to_string(binding.bytes) +
               " bytes, and the picture has " + std::to_string(picture.size()));
        std::memcpy(binding.host, picture.data(), binding.bytes);
      }
      bindings_.push_back(binding);
      devices_.push_back(device);
    }
  }

  void run() {
    copy(true);
    if (!context_->enqueue(1, devices_.data(), stream_, nullptr)) fail("the engine does not run");
    copy(false);
    check(cudaStreamSynchronize(stream_), "the engine does not run");
  }

  void profile(Profiler& profiler) {
    context_->setProfiler(&profiler);
    for (int i = 0; i < kProfiledPictures; ++i)
      if (!context_->execute(1, devices_.data())) fail("the engine does not run");
  }

  bool write(std::FILE* file) const {
    for (const Binding& binding : bindings_) {
      if (binding.input) continue;
      if (std::fprintf(file, "%s\t%s\t%lu\n", binding.name.c_str(), binding.type,
                       static_cast<unsigned long>(binding.bytes)) < 0 ||
          std::fwrite(binding.host, 1, binding.bytes, file) != binding.bytes)
        return false;
    }
    return true;
  }

 private:
  void copy(bool inputs) {
    for (size_t i = 0; i < bindings_.size(); ++i) {
      const Binding& binding = bindings_[i];
      if (binding.input != inputs) continue;
      check(inputs ? cudaMemcpyAsync(devices_[i], binding.host, binding.bytes, cudaMemcpyHostToDevice, stream_)
                   : cudaMemcpyAsync(binding.host, devices_[i], binding.bytes, cudaMemcpyDeviceToHost, stream_),
            "cudaMemcpyAsync");
    }
  }

  nvinfer1::IExecutionContext* context_;
  cudaStream_t stream_;
  std::vector<Binding> bindings_;
  std::vector<void*> devices_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 7 && count != 4)
    fail("usage: time_engine ENGINE INPUT RESULT WARMUP_S DURATION_S SAMPLES, or: time_engine ENGINE INPUT OUTPUTS");
  check(cudaSetDevice(0), "cudaSetDevice");  // the agent chooses the GPU by CUDA_VISIBLE_DEVICES
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  Logger logger;
  nvinfer1::IRuntime* runtime = nvinfer1::createInferRuntime(logger);
  if (!runtime) fail("TensorRT gives no runtime");
  const std::vector<char> data = contents(arguments[1]);
  nvinfer1::ICudaEngine* engine = runtime->deserializeCudaEngine(data.data(), data.size(), nullptr);
  if (!engine) fail("the engine does not load");
  Runner runner(*engine, contents(arguments[2]));
  if (count == 4) {
    runner.run();
    std::FILE* outputs = std::fopen(arguments[3], "wb");
    if (!outputs) fail(std::string("cannot write ") + arguments[3]);
    const bool whole = runner.write(outputs);
    if (std::fclose(outputs) != 0 || !whole) fail(std::string("cannot write ") + arguments[3]);
    return 0;
  }

  const long long warmup = static_cast<long long>(std::atof(arguments[4]) * 1e9);
  const long long duration = static_cast<long long>(std::atof(arguments[5]) * 1e9);
  const size_t least = std::strtoul(arguments[6], nullptr, 10);
  long long begin = now();
  size_t warm = 0;
  do {
    runner.run();
    ++warm;
  } while (now() - begin < warmup);
  const long long warmed = now() - begin;

  std::vector<long long> starts, ends;
  begin = now();
  do {
    starts.push_back(now());
    runner.run();
    ends.push_back(now());
  } while (starts.size() < least || ends.back() - begin < duration);
  Profiler profiler;
  runner.profile(profiler);

  std::FILE* result = std::fopen(arguments[3], "w");
  if (!result) fail(std::string("cannot write ") + arguments[3]);
  std::fprintf(result, "tensorrt\t%d.%d.%d\n", NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR, NV_TENSORRT_PATCH);
  std::fprintf(result, "device\t%d.%d\t%s\n", device.major, device.minor, device.name);
  std::fprintf(result, "warmup\t%lu\t%lld\n", static_cast<unsigned long>(warm), warmed);
  for (size_t i = 0; i < starts.size(); ++i) std::fprintf(result, "sample\t%lld\t%lld\n", starts[i], ends[i] - starts[i]);
  for (const Profiler::Layer& layer : profiler.layers)
    std::fprintf(result, "layer\t%.6f\t%s\n", layer.total / kProfiledPictures, layer.name.c_str());
  if (std::fclose(result) != 0) fail(std::string("cannot write ") + arguments[3]);
  return 0;
}
