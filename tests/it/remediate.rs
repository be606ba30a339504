//! Decide, act, verify, hand over: the role on a real log, against a real control plane.

mod commands;
mod crash;
mod example;
mod expiring;
mod forged;
mod killed;
mod limited;
mod plane;
mod platform;
mod rolled_back;
mod stopped;
mod town;
