//! The combinations of docs/methods.md, over a small model of every family that the golden cases have.

mod beside;
mod discrete;
mod gradients;
mod matrix;
mod memory;
mod merge;
mod scene;
mod table;
