//! Decide, act, verify, hand over: the role on a real log, against a real control plane.

mod crash;
mod plane;
mod platform;
