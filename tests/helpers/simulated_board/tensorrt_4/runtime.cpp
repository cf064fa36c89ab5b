// libnvinfer and libcudart of a simulated DRIVE PX 2: an engine is a process (`engine_server.py`) that runs the network
// on the CPU, and the GPU's memory is the host's.

#include <NvInfer.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/prctl.h>
#include <unistd.h>
#include <vector>
#include <signal.h>

namespace {

struct Tensor {
  std::string name;
  bool input;
  nvinfer1::Dims dims;
  std::size_t bytes;
};

class Process {
 public:
  bool start(const void* blob, std::size_t size) {
    char path[] = "/tmp/simulated-engine-XXXXXX";
    const int file = mkstemp(path);
    if (file < 0 || write(file, blob, size) != static_cast<ssize_t>(size)) return false;
    close(file);
    int questions[2], answers[2];
    if (pipe(questions) || pipe(answers)) return false;
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(questions[0], 0);
      dup2(answers[1], 1);
      for (int other : {questions[0], questions[1], answers[0], answers[1]}) close(other);
      const std::string server = std::string(std::getenv("SIMULATED_BOARD")) + "/engine_server";
      execl(server.c_str(), server.c_str(), path, static_cast<char*>(nullptr));
      _exit(127);
    }
    close(questions[0]);
    close(answers[1]);
    to_ = questions[1];
    from_ = fdopen(answers[0], "rb");
    int count = 0;
    const bool loaded = std::fscanf(from_, "%d\n", &count) == 1 && count > 0;
    for (int i = 0; loaded && i < count; ++i) {
      char name[256], kind[8];
      Tensor tensor;
      if (std::fscanf(from_, "%255s %7s %d", name, kind, &tensor.dims.nbDims) != 3) return false;
      tensor.name = name;
      tensor.input = !std::strcmp(kind, "in");
      tensor.bytes = 4;
      for (int j = 0; j < tensor.dims.nbDims; ++j) {
        if (std::fscanf(from_, "%d", &tensor.dims.d[j]) != 1) return false;
        tensor.bytes *= tensor.dims.d[j];
      }
      tensors.push_back(tensor);
    }
    if (loaded && std::fgetc(from_) != '\n') return false;
    unlink(path);
    return loaded;
  }

  bool run(void** bindings) {
    for (std::size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i].input && write_all(bindings[i], tensors[i].bytes) == false) return false;
    for (std::size_t i = 0; i < tensors.size(); ++i)
      if (!tensors[i].input && std::fread(bindings[i], 1, tensors[i].bytes, from_) != tensors[i].bytes) return false;
    return true;
  }

  std::vector<Tensor> tensors;

 private:
  bool write_all(const void* data, std::size_t size) {
    const char* at = static_cast<const char*>(data);
    while (size) {
      const ssize_t count = write(to_, at, size);
      if (count <= 0) return false;
      at += count;
      size -= count;
    }
    return true;
  }

  int to_ = -1;
  std::FILE* from_ = nullptr;
};

class Context : public nvinfer1::IExecutionContext {
 public:
  explicit Context(Process& process) : process_(process) {}
  bool execute(int batch, void** bindings) override {
    if (profiler_) {
      profiler_->reportLayerTime("conv1 + conv1_relu", 0.75f);
      profiler_->reportLayerTime("the rest", 0.25f);
    }
    return batch == 1 && process_.run(bindings);
  }
  bool enqueue(int batch, void** bindings, cudaStream_t, cudaEvent_t*) override { return batch == 1 && process_.run(bindings); }
  void setProfiler(nvinfer1::IProfiler* profiler) override { profiler_ = profiler; }
  void destroy() override {}

 private:
  Process& process_;
  nvinfer1::IProfiler* profiler_ = nullptr;
};

class Engine : public nvinfer1::ICudaEngine {
 public:
  int getNbBindings() const override { return static_cast<int>(process.tensors.size()); }
  const char* getBindingName(int i) const override { return process.tensors[i].name.c_str(); }
  bool bindingIsInput(int i) const override { return process.tensors[i].input; }
  nvinfer1::Dims getBindingDimensions(int i) const override { return process.tensors[i].dims; }
  nvinfer1::DataType getBindingDataType(int) const override { return nvinfer1::DataType::kFLOAT; }
  nvinfer1::IExecutionContext* createExecutionContext() override { return new Context(process); }
  void destroy() override {}
  Process process;
};

class Runtime : public nvinfer1::IRuntime {
 public:
  explicit Runtime(nvinfer1::ILogger& logger) : logger_(logger) {}
  nvinfer1::ICudaEngine* deserializeCudaEngine(const void* blob, std::size_t size, nvinfer1::IPluginFactory*) override {
    Engine* engine = new Engine;
    if (engine->process.start(blob, size)) return engine;
    logger_.log(nvinfer1::ILogger::Severity::kERROR, "The engine plan file is not compatible with this version of TensorRT");
    return nullptr;
  }
  void destroy() override {}

 private:
  nvinfer1::ILogger& logger_;
};

}  // namespace

namespace nvinfer1 {
IRuntime* createInferRuntime(ILogger& logger) { return new Runtime(logger); }
}  // namespace nvinfer1

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorMemoryAllocation; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const bool integrated = visible && !std::strcmp(visible, "1");
  std::strcpy(properties->name, integrated ? "NVIDIA Tegra X2" : "DRIVE PX 2 AutoChauffeur");
  properties->major = 6;
  properties->minor = integrated ? 2 : 1;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, std::size_t size) {
  *memory = std::malloc(size);
  return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaMallocHost(void** memory, std::size_t size) { return cudaMalloc(memory, size); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t count, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, count);
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "out of memory"; }
