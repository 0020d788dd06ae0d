"""What graphs may be computed in; plain names, so that arguments are checked without importing a backend."""

from typing import Literal, TypeAlias

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
PrecisionChoice: TypeAlias = Literal["auto", "fp32", "bf16", "fp16", "fp8", "int8"]
