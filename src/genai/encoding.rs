//! Takes content codings off a body as it goes by (RFC 9110, 8.4), for what reads it: what goes on stays as it came. Stands
//! between the body's bytes and `frames`.
//!
//! What a sender has flushed comes out at once. Memory is bounded by the codings themselves: 44 KiB for gzip and deflate, a
//! window of 8 MiB for zstd (RFC 8878 asks decoders for no more; a larger one is a fault), up to 16 MiB for brotli, as the
//! stream asks for it (RFC 7932, 9.1), which grows as it fills. Time is bounded by the limit of what comes out.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

mod brotli;
mod inflate;

use std::cell::Cell;

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use self::brotli::Brotli;
use self::inflate::Inflate;
use super::frames::Fault;

/// The codings of one body, and where in it we are.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The outermost first: the last that was applied.
    stages: Vec<Stage>,
    broken: Option<Fault>,
}

impl Decoder {
    /// For what the `Content-Encoding` lines say. `limit`: to how many bytes a body may decode, after any of its codings.
    /// `None` where a coding is not known, or there are more than three.
    pub(crate) fn new<'a>(header_values: impl Iterator<Item = &'a [u8]>, limit: u64) -> Option<Self> {
        let mut stages = Vec::new();
        for name in header_values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii) {
            if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            if stages.len() == MAX_STAGES {
                return None;
            }
            stages.push(Stage { coding: Coding::named(name)?, left: limit });
        }
        stages.reverse();
        Some(Self { stages, broken: None })
    }

    /// Whether there is nothing to take off.
    pub(crate) fn is_identity(&self) -> bool {
        self.stages.is_empty()
    }

    /// The next bytes of the body. `out` gets what they decode to, in pieces of at most 16 KiB; all of it, whenever the
    /// sender has flushed. After a fault nothing more comes out; what came out before it may be wrong at its end.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) -> Result<(), Fault> {
        self.broken.map_or(Ok(()), Err)?;
        if bytes.is_empty() {
            return Ok(());
        }
        pass(&mut self.stages, bytes, &mut out).inspect_err(|fault| self.broken = Some(*fault))
    }

    /// About how many bytes are held, without the scratch space that all decoders of a thread share.
    pub(crate) fn memory(&self) -> usize {
        self.stages.iter().map(|stage| size_of::<Stage>() + stage.coding.memory()).sum()
    }
}

#[derive(Debug)]
struct Stage {
    coding: Coding,
    /// How much more may come out.
    left: u64,
}

enum Coding {
    Inflate(Inflate),
    Brotli(Brotli),
    Zstd(DCtx<'static>),
}

impl Coding {
    fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("gzip") || is("x-gzip") {
            Some(Coding::Inflate(Inflate::gzip()))
        } else if is("deflate") {
            Some(Coding::Inflate(Inflate::deflate()))
        } else if is("br") {
            Some(Coding::Brotli(Brotli::new()))
        } else if is("zstd") {
            let mut context = DCtx::try_create()?;
            context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).ok()?;
            Some(Coding::Zstd(context))
        } else {
            None
        }
    }

    /// One step: what is left of the input, and how much has been written. The output may not have been enough if it is
    /// full; if it is not, and nothing has been read, nothing comes of what is left.
    fn step<'a>(&mut self, input: &'a [u8], output: &mut [u8]) -> Result<(&'a [u8], usize), Fault> {
        match self {
            Coding::Inflate(inflate) => inflate.step(input, output),
            Coding::Brotli(brotli) => brotli.step(input, output),
            Coding::Zstd(context) => {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(output));
                context.decompress_stream(&mut to, &mut from).map_err(|_| Fault::BadCoding)?;
                Ok((input.get(from.pos()..).unwrap_or_default(), to.pos()))
            }
        }
    }

    fn memory(&self) -> usize {
        match self {
            Coding::Inflate(_) => Inflate::MEMORY,
            Coding::Brotli(brotli) => brotli.memory(),
            Coding::Zstd(context) => context.sizeof(),
        }
    }
}

impl std::fmt::Debug for Coding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Coding::Inflate(_) => "Inflate",
            Coding::Brotli(_) => "Brotli",
            Coding::Zstd(_) => "Zstd",
        })
    }
}

/// Through the first stage and on to the next ones.
fn pass(stages: &mut [Stage], mut input: &[u8], out: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
    let Some((stage, further)) = stages.split_first_mut() else {
        out(input);
        return Ok(());
    };
    // Stages within stages take a space of their own: the outer one is in use.
    let mut scratch = SCRATCH.take();
    scratch.resize(SCRATCH_BYTES, 0);
    let done = loop {
        let (rest, written) = match stage.coding.step(input, &mut scratch) {
            Ok(step) => step,
            Err(fault) => break Err(fault),
        };
        let stuck = rest.len() == input.len() && written == 0;
        input = rest;
        let Some(left) = stage.left.checked_sub(u64::try_from(written).unwrap_or(u64::MAX)) else {
            break Err(Fault::TooLarge);
        };
        stage.left = left;
        let plain = scratch.get(..written).unwrap_or_default();
        let passed = if plain.is_empty() { Ok(()) } else { pass(further, plain, out) };
        if passed.is_err() {
            break passed;
        }
        // A full output may hide more.
        if stuck || (input.is_empty() && written < scratch.len()) {
            break Ok(());
        }
    };
    SCRATCH.set(scratch);
    done
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

const SCRATCH_BYTES: usize = 16 * 1024;
const MAX_STAGES: usize = 3;
/// 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

#[cfg(test)]
mod tests;
