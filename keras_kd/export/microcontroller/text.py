"""The text of the C++ sources; pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from keras_kd.export.microcontroller.operators import resolver_method

_BYTES_A_LINE = 16

_DECLARATIONS = """\
#ifndef KERAS_KD_MODEL_H_
#define KERAS_KD_MODEL_H_

#include <cstddef>
#include <cstdint>

namespace model {{

extern const std::uint8_t kData[];  // the file, aligned to 16 bytes
constexpr std::size_t kNumBytes = {num_bytes};

// {planned_bytes} for tensors, and a bound for the structures of a 64-bit interpreter with reference kernels. Optimized
// kernels may need more. The memory in use is MicroInterpreter::arena_used_bytes().
constexpr std::size_t kArenaBytes = {arena_bytes};

// (raw - mean) / std is the input of the model: one number for all channels, or one for each.
constexpr std::size_t kNumInputMeans = {num_means};
extern const float kInputMean[kNumInputMeans];
extern const float kInputStd[kNumInputMeans];

constexpr std::size_t kNumLabels = {num_labels};
{labels}
}}  // namespace model

#endif  // KERAS_KD_MODEL_H_
"""
_DEFINITIONS = """\
#include "model.h"

namespace model {{

alignas(16) const std::uint8_t kData[] = {{
{data}
}};
static_assert(sizeof(kData) == kNumBytes, "model.h belongs to another file");

const float kInputMean[] = {{{mean}}};
const float kInputStd[] = {{{std}}};
{labels}
}}  // namespace model
"""
_RESOLVER = """\
#ifndef KERAS_KD_MODEL_OPERATORS_H_
#define KERAS_KD_MODEL_OPERATORS_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace model {{

using Resolver = tflite::MicroMutableOpResolver<{num_operators}>;

inline TfLiteStatus AddOperators(Resolver& resolver) {{
{calls}
  return kTfLiteOk;
}}

}}  // namespace model

#endif  // KERAS_KD_MODEL_OPERATORS_H_
"""


def declarations(*, num_bytes: int, planned_bytes: int, arena_bytes: int, num_means: int, num_labels: int) -> str:
    """The text of `model.h`."""
    labels = "extern const char* const kLabels[kNumLabels];\n" if num_labels else ""
    return _DECLARATIONS.format(**locals())


def definitions(content: bytes, *, mean: Sequence[float], std: Sequence[float], labels: Sequence[str]) -> str:
    """The text of `model.cc`."""
    lines = (content[start : start + _BYTES_A_LINE] for start in range(0, len(content), _BYTES_A_LINE))
    quoted = "".join(f"\n    {quote(label)}," for label in labels)
    return _DEFINITIONS.format(
        data="\n".join("    " + " ".join(f"{byte:#04x}," for byte in line) for line in lines),
        mean=", ".join(map(_number, mean)),
        std=", ".join(map(_number, std)),
        labels=f"\nconst char* const kLabels[] = {{{quoted}\n}};\n" if labels else "",
    )


def resolver(operators: Sequence[str]) -> str:
    """The text of `model_operators.h`."""
    calls = "\n".join(f"  TF_LITE_ENSURE_STATUS(resolver.{resolver_method(name)}());" for name in operators)
    return _RESOLVER.format(num_operators=len(operators), calls=calls)


def quote(text: str) -> str:
    r"""A C++ string with the bytes of a text in UTF-8.

    >>> print(quote('a "cat"'), quote("Käse?"))
    "a \"cat\"" "K\303\244se\?"
    """
    return '"' + "".join(_character(byte) for byte in text.encode()) + '"'


def _character(byte: int) -> str:
    if chr(byte) in '\\"?':  # without the last, ??/ is a backslash to old compilers
        return f"\\{chr(byte)}"
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"


def _number(value: float) -> str:
    return f"{float(value)!r}f"
