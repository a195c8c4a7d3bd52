//! The CPU kernels: generic over the vector instructions (crate `pulp`), chunked over rayon's threads.

pub(crate) mod composite;
pub(crate) mod exact;
pub(crate) mod fitted;
pub(crate) mod map;
pub(crate) mod piecewise;
pub(crate) mod pool;
pub(crate) mod smooth;
