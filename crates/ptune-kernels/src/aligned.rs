//! A buffer of f32 that starts on a cache line, so that a vector load never straddles two.
//!
//! A longer vector is allocated and its first whole line is where the buffer begins. (An allocation with an alignment
//! of its own would be zeroed at once by the allocating thread; this one comes zeroed from the system, page by page to
//! the threads that fill it.)

use std::ops::{Deref, DerefMut};

/// f32 of a cache line.
const LINE: usize = 16;

/// A buffer of f32 on a 64-byte boundary; the length is a multiple of 16.
#[derive(Default)]
pub struct Aligned {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// At least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let len = len.next_multiple_of(LINE);
        let memory = vec![0.0f32; len + LINE - 1];
        let past = memory.as_ptr().addr() / size_of::<f32>() % LINE;
        Aligned { start: (LINE - past) % LINE, memory, len }
    }

    /// Grows to at least `len` numbers.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeros(len);
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_on_a_cache_line_and_are_zero() {
        for len in [0, 1, 16, 17, 1000, 1_000_000] {
            let buffer = Aligned::zeros(len);
            assert!(buffer.len() >= len && buffer.len().is_multiple_of(16));
            assert_eq!(buffer.as_ptr().addr() % 64, 0, "{len} numbers");
            assert!(buffer.iter().all(|&x| x == 0.0));
        }
    }
}
