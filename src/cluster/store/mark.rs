//! The mark: how many writes the raft log has acknowledged, in a file beside it.
//!
//! It is written after each of them and not synced, so it survives the process, and after a power loss
//! it may be behind, which proves nothing. Ahead of the log it proves that the log has gone back.

use ring::digest::{SHA256, digest};

use super::disk::{Disk, MARK_FILE};
use super::fault::FileFault;

/// First bytes of the file; the last of them is its format.
const MAGIC: &[u8; 8] = b"SKEINMK1";
/// Bytes of the checksum.
const SUM: usize = 8;

/// The content of the mark file for a sequence number.
pub(super) fn mark_of(sequence: u64) -> Vec<u8> {
    let mut mark = MAGIC.to_vec();
    mark.extend_from_slice(&sequence.to_le_bytes());
    let sum = digest(&SHA256, &mark);
    mark.extend_from_slice(&sum.as_ref()[..SUM]);
    mark
}

/// The number in the mark file. A mark that does not read proves nothing, and a machine that lost
/// power may leave one: it counts as zero.
pub(super) fn read_mark(disk: &dyn Disk) -> Result<u64, FileFault> {
    let Some(bytes) = disk.read(MARK_FILE)? else {
        return Ok(0);
    };
    let number = bytes
        .get(MAGIC.len()..MAGIC.len() + 8)
        .and_then(|number| <[u8; 8]>::try_from(number).ok())
        .map(u64::from_le_bytes);
    match number {
        Some(number) if bytes == mark_of(number) => Ok(number),
        _ => {
            tracing::warn!(
                path = %disk.path(MARK_FILE).display(),
                "the mark of the raft log does not read: the log is taken as it is"
            );
            Ok(0)
        }
    }
}
