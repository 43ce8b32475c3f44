//! Brotli (RFC 7932), by a decoder whose memory is counted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use brotli_decompressor::{Allocator, BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use crate::genai::frames::Fault;

/// One stream.
pub(super) struct Brotli {
    /// `None`: it has ended, and what follows is passed over; or it was broken.
    state: Option<Box<State>>,
}

type State = BrotliState<Counted, Counted, Counted>;

impl Brotli {
    /// Without the large windows that RFC 7932 does not know.
    pub(super) fn new() -> Self {
        let counted = Counted::default;
        Self { state: Some(Box::new(State::new_strict(counted(), counted(), counted()))) }
    }

    pub(super) fn step<'a>(&mut self, input: &'a [u8], output: &mut [u8]) -> Result<(&'a [u8], usize), Fault> {
        let Some(state) = &mut self.state else { return Ok((&[], 0)) };
        let (mut left, mut read, mut room, mut written, mut total) = (input.len(), 0, output.len(), 0, 0);
        // The decoder is safe Rust with many indices in it: one that is wrong must not end the connection.
        let result = catch_unwind(AssertUnwindSafe(|| {
            BrotliDecompressStream(&mut left, &mut read, input, &mut room, &mut written, output, &mut total, state)
        }));
        match result {
            Ok(BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput) => {
                Ok((input.get(read..).unwrap_or_default(), written))
            }
            Ok(BrotliResult::ResultSuccess) => {
                self.state = None;
                Ok((&[], written))
            }
            Ok(BrotliResult::ResultFailure) | Err(_) => {
                self.state = None;
                Err(Fault::BadCoding)
            }
        }
    }

    pub(super) fn memory(&self) -> usize {
        let Some(state) = &self.state else { return 0 };
        size_of::<State>() + state.alloc_u8.held + state.alloc_u32.held + state.alloc_hc.held
    }
}

/// How many bytes a state has taken and not given back.
#[derive(Default)]
struct Counted {
    held: usize,
}

impl<T: Clone + Default> Allocator<T> for Counted {
    type AllocatedMemory = <StandardAlloc as Allocator<T>>::AllocatedMemory;

    fn alloc_cell(&mut self, length: usize) -> Self::AllocatedMemory {
        self.held += length * size_of::<T>();
        StandardAlloc::default().alloc_cell(length)
    }

    fn free_cell(&mut self, cell: Self::AllocatedMemory) {
        let length = brotli_decompressor::SliceWrapper::<T>::len(&cell);
        self.held = self.held.saturating_sub(length * size_of::<T>());
    }
}
