//! The binary as people meet it: real runs on tiny random models, bad input of every kind, pipes, full disks.
//!
//! The models are those of the golden tests (`crates/ptune/tests/golden/*/model`); run files and data are written into
//! a directory of their own for each test ([`scene::Scene`]).

mod adapter;
mod answers;
mod bad_adapter;
mod bad_family;
mod bad_model;
mod bad_request;
mod built_in;
mod bundle;
mod cache;
mod contract;
mod demo;
mod families;
mod full_disk;
mod generate;
mod hostile;
mod hub;
mod inspect;
mod long_words;
mod lora;
mod pretrain;
mod resume;
mod same_bits;
mod scene;
mod search;
mod seeds;
mod sensitivity;
mod tuned;
mod words;
mod world;
