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
    /// Lines, and behind them what an earlier block left.
    memory: Vec<u8>,
    length: usize,
    spare: Spare,
}

/// Memory of blocks that are done with: as many as were under way at once.
pub(super) type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

impl Block {
    /// Memory for exactly this much: where a block ends decides what is added up together, so it must be the same each time.
    fn taken(spare: &Spare, bytes: usize) -> Self {
        let memory = spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = memory.unwrap_or_default();
        memory.resize(bytes, 0);
        Block { memory, length: 0, spare: Arc::clone(spare) }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // One long line must not keep its memory for good.
        if memory.len() <= 2 * CHUNK_BYTES {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
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

    /// The same, in a block of this size, if a line fits in it.
    pub(super) fn next_of(&mut self, bytes: usize) -> io::Result<(Block, bool)> {
        let mut filled = self.rest.len();
        let mut block = Block::taken(&self.spare, if filled < bytes { bytes } else { filled + bytes });
        block.memory[..filled].copy_from_slice(&self.rest);
        self.rest.clear();
        loop {
            let before = filled;
            filled += fill(&mut self.input, &mut block.memory[before..])?;
            if filled < block.memory.len() {
                block.length = filled;
                return Ok((block, true));
            }
            if let Some(end) = block.memory[before..].iter().rposition(|byte| *byte == b'\n') {
                block.length = before + end + 1;
                self.rest.extend_from_slice(&block.memory[block.length..]);
                return Ok((block, false));
            }
            if filled > LINE_BYTES_MAX {
                let reason = format!("a line is longer than {LINE_BYTES_MAX} bytes; is there one record on each line?");
                return Err(io::Error::other(reason));
            }
            block.memory.resize(filled + bytes, 0);
        }
    }
}

/// Reads until the memory is full or the input ends; how much that was. [`Read::read_to_end`] would zero memory each time.
fn fill(input: &mut dyn Read, memory: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < memory.len() {
        match input.read(&mut memory[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
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
    fn blocks_end_at_the_same_places_whatever_their_memory_held_before() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        (0..1_000).for_each(|line| writeln!(file, "{line}").unwrap());
        let ends = |spare: Vec<Vec<u8>>| {
            let spare = Arc::new(Mutex::new(spare));
            let mut lines = Lines::open(file.path(), Packing::Plain, &Arc::default(), &spare).unwrap();
            std::iter::from_fn(move || {
                let (block, is_last) = lines.next_of(64).unwrap();
                (!is_last).then(|| block.to_vec())
            })
            .collect::<Vec<_>>()
        };
        let fresh = ends(Vec::new());
        assert!(fresh.len() > 50);
        assert_eq!(fresh, ends(vec![vec![b'\n'; 3], vec![b'x'; 5_000], vec![b'\n'; 64]]));
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
