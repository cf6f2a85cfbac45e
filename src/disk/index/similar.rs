//! Files that share content with others: a few sampled chunk ids for each file.

use super::{Batch, IndexError, ModuleNumber, View};
use crate::tree::hash::FileId;
use crate::tree::limits::SAMPLES_MAX;
use crate::tree::list::Samples;

/// Files looked at for one chunk id. A chunk that more files share, such as one of zeros, tells little.
const FILES_PER_CHUNK: u32 = 64;

impl View {
    /// The content keys of the module's files that share `samples`, and how many they share: most
    /// first, `limit` of them at most. [`files_of_key`](Self::files_of_key) says where they are.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn similar(&self, module: ModuleNumber, samples: &[u64], limit: usize) -> Result<Vec<(u64, u32)>, IndexError> {
        let sql = "SELECT key FROM sample s WHERE module = ?1 AND chunk = ?2 \
                   AND EXISTS (SELECT 1 FROM file f WHERE f.module = ?1 AND f.key = s.key) LIMIT ?3";
        let mut keys = Vec::new();
        for chunk in samples.iter().take(SAMPLES_MAX) {
            let values = (module.0, chunk.cast_signed(), FILES_PER_CHUNK);
            keys.extend(self.all(sql, values, |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?);
        }
        keys.sort_unstable();
        let mut shared: Vec<(u64, u32)> = Vec::new();
        for key in keys {
            match shared.last_mut() {
                Some((last, count)) if *last == key => *count += 1,
                _ => shared.push((key, 1)),
            }
        }
        shared.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
        shared.truncate(limit);
        Ok(shared)
    }
}

impl Batch<'_> {
    /// Notes the sampled chunks of a content.
    ///
    /// # Errors
    /// [`IndexError::Sql`].
    pub fn put_samples(&mut self, module: ModuleNumber, file: &FileId, samples: &Samples) -> Result<(), IndexError> {
        for chunk in samples.ids() {
            let sql = "INSERT OR IGNORE INTO sample(module, chunk, key) VALUES(?1, ?2, ?3)";
            self.run("write to", sql, (module.0, chunk.cast_signed(), file.prefix().cast_signed()))?;
        }
        Ok(())
    }
}
