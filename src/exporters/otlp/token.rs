//! A bearer token from a file that is rotated while we run.

use std::path::PathBuf;

use http::HeaderValue;
use tracing::{info, warn};

use crate::files::{self, Stamp};

/// The file, and the header that its content makes.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    stamp: Option<Stamp>,
    header: Option<HeaderValue>,
}

impl TokenFile {
    /// Read with the first request.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, stamp: None, header: None }
    }

    /// The header for a request that is made now. Without a usable token there is none: the backend will say so.
    pub(super) fn header(&mut self) -> Option<HeaderValue> {
        let stamp = Some(Stamp::of(&self.path));
        if self.stamp != stamp {
            let first = self.stamp.is_none();
            self.stamp = stamp;
            let path = self.path.display();
            match self.read() {
                Ok(header) => {
                    if !first {
                        info!(%path, "the export token was read again");
                    }
                    self.header = Some(header);
                }
                Err(reason) => {
                    warn!(%path, reason, "no export token: requests go without one");
                    self.header = None;
                }
            }
        }
        self.header.clone()
    }

    fn read(&self) -> Result<HeaderValue, String> {
        let content = files::read(&self.path).map_err(|error| error.to_string())?;
        let token = content.trim_ascii();
        if token.is_empty() {
            return Err("the file is empty".into());
        }
        let mut header = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
            .map_err(|_| "the file holds more than one line, or control characters")?;
        header.set_sensitive(true);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_when_its_file_was_written_replaced_or_removed() {
        let folder = std::env::temp_dir().join(format!("sidetrace-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("token");
        let mut token = TokenFile::new(path.clone());
        assert_eq!(token.header(), None);
        std::fs::write(&path, " first\n").unwrap();
        assert_eq!(token.header().unwrap(), "Bearer first");
        assert!(token.header().unwrap().is_sensitive());
        let next = folder.join("next");
        for (content, expected) in
            [("second", Some("Bearer second")), (" \n", None), ("two\nlines", None), ("third", Some("Bearer third"))]
        {
            std::fs::write(&next, content).unwrap();
            std::fs::rename(&next, &path).unwrap();
            let header = token.header();
            assert_eq!(header.as_ref().map(|header| header.to_str().unwrap()), expected);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(token.header(), None);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(token.header(), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
