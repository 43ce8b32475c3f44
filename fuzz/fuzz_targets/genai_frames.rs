//! Any body in the framings of LLM answers: the same events however it is cut, and no more payload than there were bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| sidetrace::genai::splits::frames(data));
