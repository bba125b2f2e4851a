#include "runtime/fail_together.h"

#include <algorithm>
#include <future>
#include <string>

#include "base/require.h"
#include "runtime/gather_texts.h"

namespace flex {
namespace {

enum Kind : std::int64_t { kNone, kInput, kFile, kOther };

struct Failure {
  std::int64_t kind = kNone;
  std::string text;
};

Failure failure_of(const std::exception_ptr& error) {
  if (!error) return {};
  try {
    std::rethrow_exception(error);
  } catch (const InputError& input) {
    return {kInput, input.what()};
  } catch (const FileError& file) {
    return {kFile, file.what()};
  } catch (const std::exception& other) {
    return {kOther, other.what()};
  } catch (...) {
    return {kOther, "something that is no exception was thrown"};
  }
}

}  // namespace

void throw_if_any_failed_blocking(const std::exception_ptr& error, Communicator& communicator) {
  const Failure own = failure_of(error);
  std::vector<std::int64_t> kinds(static_cast<std::size_t>(communicator.size()));
  communicator.gather_host_blocking({&own.kind, 1}, kinds);
  const auto failed = std::ranges::find_if(kinds, [](std::int64_t kind) { return kind != kNone; });
  if (failed == kinds.end()) return;
  const std::vector<std::string> texts = gather_texts_blocking(own.text, communicator);
  if (error) std::rethrow_exception(error);
  const auto rank = static_cast<std::size_t>(failed - kinds.begin());
  const std::string text = fmt::format("rank {}: {}", rank, texts[rank]);
  if (*failed == kInput) throw InputError(text);
  if (*failed == kFile) throw FileError(text);
  throw Error(text);
}

void do_patiently_together_blocking(Communicator& communicator, const std::function<void()>& work) {
  constexpr int kTurnsPerDeadline = 4;
  const auto turn = communicator.deadline() / kTurnsPerDeadline;
  std::future<void> result = std::async(std::launch::async, work);
  std::vector<std::int64_t> done(static_cast<std::size_t>(communicator.size()));
  while (std::ranges::count(done, 1) < std::ssize(done)) {
    const std::int64_t own = result.wait_for(turn) == std::future_status::ready ? 1 : 0;
    communicator.gather_host_blocking({&own, 1}, done);
  }
  do_together_blocking(communicator, [&] { result.get(); });
}

}  // namespace flex
