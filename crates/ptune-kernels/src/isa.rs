//! Which instruction set runs, chosen once at run time, and the macro that makes a kernel's shells.
//!
//! To add one (neon): a token in `simd/`, a variant here, an arm in the macro.
#![allow(unsafe_code)] // The shells call functions compiled for an instruction set; the token proves it is there.

use crate::simd::Portable;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Avx512Bf16};

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub struct Isa(pub(crate) Token);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
}

impl Isa {
    /// Names of all instruction sets that ptune has kernels for, the best first.
    pub const NAMES: [&'static str; 4] = ["avx512bf16", "avx512f", "avx2+fma", "portable"];

    /// The best instruction set of this processor.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// All instruction sets of this processor, the best first; `portable` is always the last.
    pub fn available() -> Vec<Self> {
        Self::NAMES.iter().filter_map(|name| Self::named(name)).collect()
    }

    /// The instruction set of that name (one of [`Isa::NAMES`]), if this processor has it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            #[cfg(target_arch = "x86_64")]
            "avx512bf16" => Avx512Bf16::new().map(|t| Isa(Token::Avx512Bf16(t))),
            #[cfg(target_arch = "x86_64")]
            "avx512f" => Avx512::new().map(|t| Isa(Token::Avx512(t))),
            #[cfg(target_arch = "x86_64")]
            "avx2+fma" => Avx2::new().map(|t| Isa(Token::Avx2(t))),
            "portable" => Some(Isa(Token::Portable(Portable))),
            _ => None,
        }
    }

    /// Its name, one of [`Isa::NAMES`].
    pub fn name(self) -> &'static str {
        match self.0 {
            Token::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => "avx2+fma",
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => "avx512f",
            #[cfg(target_arch = "x86_64")]
            Token::Avx512Bf16(_) => "avx512bf16",
        }
    }

    /// f32 lanes of one vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            Token::Portable(_) => 8,
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => 8,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) | Token::Avx512Bf16(_) => 16,
        }
    }

    /// Whether it multiplies bf16 numbers in one instruction. Elsewhere they are widened first, which is no faster than
    /// f32.
    pub fn multiplies_bf16(self) -> bool {
        self.name() == "avx512bf16"
    }
}

/// `isa_shells! { fn name(isa, x: &[f32], ...) -> R = generic; }` makes `fn name(isa: Isa, x: &[f32], ...) -> R` that
/// calls the `#[inline(always)]` function `generic(token, x, ...)` compiled for the instruction set of `isa`.
macro_rules! isa_shells {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident(isa $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? = $generic:path;)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::isa::Isa $(, $arg: $ty)*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2(token: $crate::simd::Avx2 $(, $arg: $ty)*) $(-> $ret)? {
                $generic(token $(, $arg)*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512(token: $crate::simd::Avx512 $(, $arg: $ty)*) $(-> $ret)? {
                $generic(token $(, $arg)*)
            }
            match isa.0 {
                $crate::isa::Token::Portable(token) => $generic(token $(, $arg)*),
                // SAFETY: the token proves that the processor has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Token::Avx2(token) => unsafe { avx2(token $(, $arg)*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Token::Avx512(token) => unsafe { avx512(token $(, $arg)*) },
                // SAFETY: as above; only what `bf16_shells!` makes needs more than AVX-512F.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Token::Avx512Bf16(token) => unsafe { avx512(token.avx512() $(, $arg)*) },
            }
        }
    )*};
}
pub(crate) use isa_shells;

/// As [`isa_shells!`], for a `generic` over [`Bf16`](crate::simd::Bf16) tokens: compiled for AVX512-BF16, too.
macro_rules! bf16_shells {
    ($($(#[$doc:meta])* $vis:vis fn $name:ident(isa $(, $arg:ident: $ty:ty)* $(,)?) $(-> $ret:ty)? = $generic:path;)*) => {$(
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::isa::Isa $(, $arg: $ty)*) $(-> $ret)? {
            $crate::isa::isa_shells! { fn widened(isa $(, $arg: $ty)*) $(-> $ret)? = $generic; }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512bf16,avx512f,avx2,fma")]
            fn native(token: $crate::simd::Avx512Bf16 $(, $arg: $ty)*) $(-> $ret)? {
                $generic(token $(, $arg)*)
            }
            match isa.0 {
                // SAFETY: the token proves that the processor has the instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Token::Avx512Bf16(token) => unsafe { native(token $(, $arg)*) },
                _ => widened(isa $(, $arg)*),
            }
        }
    )*};
}
pub(crate) use bf16_shells;
