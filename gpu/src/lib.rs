//! Compute on any GPU.
