//! A term owns its work: when a node's next term begins, nothing of the one before runs there any more, a handle of a
//! term that is over does nothing, and agents never go back to the orders of an older term.

use std::collections::BTreeMap;

use super::super::history::{Entry, Life, Record};

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut worked: BTreeMap<Life, u64> = BTreeMap::new();
    let mut obeyed: BTreeMap<Life, u64> = BTreeMap::new();
    for record in records {
        match &record.entry {
            Entry::TermBegan { life, term, clean } => {
                let before = worked.insert(*life, *term).unwrap_or(0);
                if !clean {
                    broken.push(format!(
                        "{life:?} works for term {term}, and work of term {before} goes on"
                    ));
                }
                // A leader that was cut off for a while may go on leading in the same term of raft.
                if *term < before {
                    broken.push(format!(
                        "{life:?} works for term {term} after term {before}"
                    ));
                }
            }
            Entry::OldTermUsed {
                term, worked: true, ..
            } => broken.push(format!("term {term} was over, and did as it was told")),
            Entry::Obeys { life, term, .. } => {
                let before = obeyed.insert(*life, *term).unwrap_or(0);
                if *term < before {
                    broken.push(format!("{life:?} obeys term {term} after term {before}"));
                }
            }
            _ => {}
        }
    }
    broken
}
