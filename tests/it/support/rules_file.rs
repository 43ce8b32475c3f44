//! A rules file that goes with its test.

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct RulesFile(PathBuf);

impl RulesFile {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("sidetrace-rules-{name}-{}.yaml", std::process::id())));
        file.write(text);
        file
    }

    /// In one step, as whoever cares writes a file that others read.
    pub(crate) fn write(&self, text: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// As a setting's value.
    pub(crate) fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for RulesFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
