//! The binary `ptune`.

fn main() {}
