//! Messages that wait to be worked off together: a little in memory, the rest in a file without a name.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::failure::Failure;
use super::take_content::stage_failure;
use crate::disk::stage::Stage;

/// Bytes that are kept in memory.
const IN_MEMORY: usize = 4 * 1024 * 1024;

/// Bodies of messages, in the order in which they came.
#[derive(Default)]
pub(super) struct Spool {
    first: Vec<Vec<u8>>,
    first_bytes: usize,
    file: Option<File>,
    /// Lengths of the bodies in the file.
    lengths: Vec<usize>,
    written: u64,
}

impl Spool {
    /// Adds one; a file is made in `stage` when there are many.
    ///
    /// # Errors
    /// [`Failure`] when the disk refuses.
    pub(super) fn push(&mut self, stage: &Stage, body: &[u8]) -> Result<(), Failure> {
        if self.first_bytes + body.len() <= IN_MEMORY && self.file.is_none() {
            self.first_bytes += body.len();
            self.first.push(body.to_vec());
            return Ok(());
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => stage.scratch().map_err(|e| stage_failure(&e))?,
        };
        file.write_all_at(body, self.written).map_err(|e| failed(&e))?;
        self.written += body.len() as u64;
        self.lengths.push(body.len());
        self.file = Some(file);
        Ok(())
    }

    /// Gives them back; an item is a [`Failure`] when the disk refuses.
    pub(super) fn read(self) -> impl Iterator<Item = Result<Vec<u8>, Failure>> {
        let mut offset = 0;
        let file = self.file;
        let rest = self.lengths.into_iter().map(move |length| {
            let mut body = vec![0; length];
            if let Some(file) = &file {
                file.read_exact_at(&mut body, offset).map_err(|e| failed(&e))?;
            }
            offset += length as u64;
            Ok(body)
        });
        self.first.into_iter().map(Ok).chain(rest)
    }
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::local("cannot keep what has come", error)
}
