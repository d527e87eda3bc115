//! The compute kernels of ptune: slices in, slices out.
