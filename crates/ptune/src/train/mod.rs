//! train

pub mod config;
