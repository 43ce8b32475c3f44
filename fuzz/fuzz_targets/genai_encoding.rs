//! Any body in any content coding: the same content however it is cut, within the limits of size and memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| sidetrace::genai::splits::decoder(data));
