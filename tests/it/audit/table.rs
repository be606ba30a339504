//! The chain in the table `audit`: verified there, also against somebody who writes the files.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use maturion::evaluate::tables::{AuditTable, Place};
use maturion::model::schema::StoreTable;
use maturion::store::chunk::OffsetRange;
use maturion::store::{Location, Store};

use super::{Filed, SECRET, messages};

/// A committed table of these messages; `forge` may change the rows.
fn table(folder: &Path, messages: &[Filed], forge: impl Fn(&mut Vec<(String, Place)>)) -> Arc<Store> {
    let place = |offset: i64| Place { partition: 0, offset };
    let mut rows = (0..).zip(messages).map(|(at, (_, text))| (text.clone(), place(at))).collect::<Vec<_>>();
    forge(&mut rows);
    let mut made = AuditTable::default();
    for (text, place) in &rows {
        made.push(text.as_bytes(), *place).unwrap();
    }
    let store = Store::open(&Location::parse("file:store", folder).unwrap(), &[]).unwrap();
    let range = OffsetRange { start: 0, end: rows.len() as i64 };
    store.state(StoreTable::Audit).append(&"maturion.audit-0".into(), range, made.finish().unwrap()).unwrap();
    let chunk = store.state(StoreTable::Audit).seal().unwrap();
    store.commit(StoreTable::Audit, &chunk).unwrap();
    store
}

/// Exit code, standard output, standard error.
fn verify(folder: &Path) -> (i32, String, String) {
    std::fs::write(folder.join("key"), SECRET).unwrap();
    // A port that was free a moment ago: no instance answers, so the files are read.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration =
        format!("[store]\nurl = \"file:store\"\n[serve]\nhttp = \"{address}\"\n[audit]\nkey_file = \"key\"\n");
    std::fs::write(folder.join("maturion.toml"), configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_maturion"));
    command.args(["audit", "verify", "--store"]).current_dir(folder).env_clear().env("MATURION_LOG", "off");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_table_is_verified_in_the_order_of_the_topic() {
    let folder = tempfile::tempdir().unwrap();
    let (all, end) = messages(50);
    table(folder.path(), &all, |_| {});
    let (code, said, error) = verify(folder.path());
    assert_eq!(code, 0, "{error}");
    assert!(said.starts_with("entries: 200 (1 to 200)") && said.ends_with(&format!("end: {end}\nok\n")), "{said}");
}

#[test]
fn rows_that_were_deleted_or_moved_are_found() {
    let folder = tempfile::tempdir().unwrap();
    table(folder.path(), &messages(2).0, |rows| drop(rows.remove(6)));
    let (code, _, error) = verify(folder.path());
    assert_eq!(code, 1);
    assert!(error.contains("entry 6 was deleted: entry 7 follows 5"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    table(folder.path(), &messages(2).0, |rows| rows[6].1.offset = 100);
    let (code, _, error) = verify(folder.path());
    assert_eq!(code, 1);
    assert!(error.contains("the entries were reordered: entry 6 stands after later ones"), "{error}");
}

/// Somebody leaves the entry as it is and changes the column beside it, which is what people read.
#[test]
fn a_column_that_does_not_say_what_its_entry_says_is_found() {
    use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
    let folder = tempfile::tempdir().unwrap();
    let location = Location::parse("file:store", folder.path()).unwrap();
    let store = Store::open(&location, &[]).unwrap();
    let mut made = AuditTable::default();
    let (all, _) = messages(1);
    for (at, (_, text)) in (0..).zip(&all) {
        made.push(text.as_bytes(), Place { partition: 0, offset: at }).unwrap();
    }
    let rows = made.finish().unwrap();
    let mut columns = rows.columns().to_vec();
    let decision = rows.schema().index_of("decision").unwrap();
    columns[decision] = Arc::new(StringViewArray::from(vec![Some("deny"), None, None, None, None])) as ArrayRef;
    let forged = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let range = OffsetRange { start: 0, end: 5 };
    store.state(StoreTable::Audit).append(&"maturion.audit-0".into(), range, forged).unwrap();
    let chunk = store.state(StoreTable::Audit).seal().unwrap();
    store.commit(StoreTable::Audit, &chunk).unwrap();
    let (code, _, error) = verify(folder.path());
    assert_eq!(code, 1);
    assert!(error.contains("the copy of entry 1 is not what the entry says: its column `decision`"), "{error}");
}

#[test]
fn an_empty_table_has_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(&Location::parse("file:store", folder.path()).unwrap(), &[]).unwrap();
    assert_eq!(verify(folder.path()), (0, "no entries: ok\n".to_owned(), String::new()));
}
