//! Files of NDJSON as blocks of whole lines: plain, or unpacked on the way.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::MultiGzDecoder;

/// Bytes of lines in one chunk: enough that its partial states cost little beside its rows. A few are under way for
/// each core.
const CHUNK_BYTES: usize = 4 << 20;
/// A line longer than this is no line: the file is something else. Decoding refuses much shorter ones, one by one.
const LINE_BYTES_MAX: usize = 64 << 20;
/// What is read from a packed file at once.
const PACKED_BYTES: usize = 256 << 10;

/// Bytes of lines that one chunk holds, unless one line is longer.
pub fn chunk_bytes() -> usize {
    CHUNK_BYTES
}

/// Whole lines. Its memory is used again for a later block: the kernel takes longer to give fresh pages than the disk to
/// fill them.
pub(super) struct Block {
    lines: Vec<u8>,
    spare: Spare,
}

/// Memory of blocks that are done with: as many as were under way at once.
pub(super) type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

impl Block {
    /// Memory for at least this much.
    fn taken(spare: &Spare, bytes: usize) -> Self {
        let lines = spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut lines = lines.unwrap_or_default();
        lines.reserve(bytes);
        Block { lines, spare: Arc::clone(spare) }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.lines
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        // One long line must not keep its memory for good.
        if lines.capacity() <= 2 * CHUNK_BYTES {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(lines);
        }
    }
}

/// How a file of lines is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// One file of lines, read block by block.
pub(super) struct Lines {
    input: Box<dyn Read + Send>,
    /// The beginning of the line that the last block ended in.
    rest: Vec<u8>,
    spare: Spare,
}

impl Lines {
    /// Opens a file; what is read of it is counted in `read`, and blocks take their memory from `spare`.
    pub(super) fn open(path: &Path, packing: Packing, read: &Arc<AtomicU64>, spare: &Spare) -> io::Result<Self> {
        let counted = Counted { file: File::open(path)?, read: Arc::clone(read) };
        let input: Box<dyn Read + Send> = match packing {
            Packing::Plain => Box::new(counted),
            Packing::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(PACKED_BYTES, counted))),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(counted)?),
        };
        Ok(Self { input, rest: Vec::new(), spare: Arc::clone(spare) })
    }

    /// The next whole lines, and true if they are the last.
    pub(super) fn next(&mut self) -> io::Result<(Block, bool)> {
        self.next_of(CHUNK_BYTES)
    }

    /// The same, in a block of about this size.
    pub(super) fn next_of(&mut self, bytes: usize) -> io::Result<(Block, bool)> {
        let mut block = Block::taken(&self.spare, bytes + self.rest.len());
        let lines = &mut block.lines;
        lines.append(&mut self.rest);
        loop {
            let before = lines.len();
            self.input.by_ref().take(bytes as u64).read_to_end(lines)?;
            if lines.len() - before < bytes {
                return Ok((block, true));
            }
            if let Some(end) = lines[before..].iter().rposition(|byte| *byte == b'\n') {
                self.rest.extend_from_slice(&lines[before + end + 1..]);
                lines.truncate(before + end + 1);
                return Ok((block, false));
            }
            if lines.len() > LINE_BYTES_MAX {
                let reason = format!("a line is longer than {LINE_BYTES_MAX} bytes; is there one record on each line?");
                return Err(io::Error::other(reason));
            }
        }
    }
}

/// A file that counts what is read of it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// All blocks of a file of this text.
    fn blocks(text: &[u8], bytes: usize) -> Vec<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let mut lines = Lines::open(file.path(), Packing::Plain, &Arc::default(), &Arc::default()).unwrap();
        let mut blocks = Vec::new();
        loop {
            let (block, is_last) = lines.next_of(bytes).unwrap();
            blocks.push(block.to_vec());
            if is_last {
                return blocks;
            }
        }
    }

    #[test]
    fn a_block_ends_where_a_line_does_and_nothing_is_lost() {
        for text in
            [&b""[..], b"a", b"a\n", b"ab\ncd\n", b"ab\ncd", b"\n\n\n", b"a long line, longer than a block\nb\n"]
        {
            for bytes in 1..40 {
                let blocks = blocks(text, bytes);
                assert_eq!(blocks.concat(), text, "{bytes}");
                let (last, others) = blocks.split_last().unwrap();
                assert!(others.iter().all(|block| block.ends_with(b"\n")), "{bytes}: {others:?} {last:?}");
            }
        }
    }
}
