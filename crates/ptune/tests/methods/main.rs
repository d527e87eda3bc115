//! The combinations of docs/methods.md, over a small model of every family that the golden cases have.

mod matrix;
mod merge;
mod scene;
