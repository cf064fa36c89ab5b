// The part of TensorRT 4's NvInfer.h that the agent's timing program uses, written by hand from its documentation.
#pragma once

#include <cstddef>
#include <cuda_runtime_api.h>

#define NV_TENSORRT_MAJOR 4
#define NV_TENSORRT_MINOR 0
#define NV_TENSORRT_PATCH 2

namespace nvinfer1 {

enum class DataType : int { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3 };

class Dims {
 public:
  static const int MAX_DIMS = 8;
  int nbDims;
  int d[MAX_DIMS];
};

class ILogger {
 public:
  enum class Severity { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3 };
  virtual void log(Severity severity, const char* msg) = 0;
  virtual ~ILogger() {}
};

class IProfiler {
 public:
  virtual void reportLayerTime(const char* layerName, float ms) = 0;

 protected:
  virtual ~IProfiler() {}
};

class IPluginFactory;

class IExecutionContext {
 public:
  virtual bool execute(int batchSize, void** bindings) = 0;
  virtual bool enqueue(int batchSize, void** bindings, cudaStream_t stream, cudaEvent_t* inputConsumed) = 0;
  virtual void setProfiler(IProfiler*) = 0;
  virtual void destroy() = 0;

 protected:
  virtual ~IExecutionContext() {}
};

class ICudaEngine {
 public:
  virtual int getNbBindings() const = 0;
  virtual const char* getBindingName(int bindingIndex) const = 0;
  virtual bool bindingIsInput(int bindingIndex) const = 0;
  virtual Dims getBindingDimensions(int bindingIndex) const = 0;
  virtual DataType getBindingDataType(int bindingIndex) const = 0;
  virtual IExecutionContext* createExecutionContext() = 0;
  virtual void destroy() = 0;

 protected:
  virtual ~ICudaEngine() {}
};

class IRuntime {
 public:
  virtual ICudaEngine* deserializeCudaEngine(const void* blob, std::size_t size, IPluginFactory* pluginFactory) = 0;
  virtual void destroy() = 0;

 protected:
  virtual ~IRuntime() {}
};

IRuntime* createInferRuntime(ILogger& logger);

}  // namespace nvinfer1
