//! A buffer of f32 that starts on a cache line, so that a vector load never straddles two.
#![allow(unsafe_code)] // A slice of whole cache lines is also a slice of floats.

use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growable buffer of f32 on a 64-byte boundary; the length is a multiple of 16.
#[derive(Clone, Default)]
pub(crate) struct Aligned(Vec<Line>);

impl Aligned {
    /// At least `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Aligned(vec![Line([0.0; 16]); len.div_ceil(16)])
    }

    /// Grows to at least `len` numbers.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.0.len() * 16 < len {
            *self = Self::zeros(len);
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is `repr(C)` with sixteen f32 and no padding (64 bytes, aligned to 64).
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * 16) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * 16) }
    }
}
