#pragma once

#include <stdexcept>
#include <string>

/// The exceptions of Flex. A message is one line: what was wrong, where (file, key, line, rank), and what
/// would be right. This header is free of formatting so that device code can include it.
namespace flex {

/// Base of everything that Flex throws.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What the caller or a file asked for cannot be: wrong shapes, unknown keys, an illegal plan.
class InputError : public Error {
 public:
  using Error::Error;
};

/// A device, its driver or one of its libraries refused a call.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// The memory of a device, or of the host, does not suffice. Smaller tensors may still fit.
class OutOfMemoryError : public DeviceError {
 public:
  using DeviceError::DeviceError;
};

/// A collective did not complete: a peer failed, is missing past the deadline, or disagrees.
class CommError : public Error {
 public:
  using Error::Error;
};

/// The tuning cache could not be used.
class CacheError : public Error {
 public:
  using Error::Error;
};

/// A file could not be read or written; the message names it and the system's reason.
class FileError : public Error {
 public:
  using Error::Error;
};

}  // namespace flex
