//! The store: written by hand and through its role, read by SQL, broken and recovered.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use maturion::model::principal::Principal;
use maturion::store::scan::table_source;
use maturion::store::{Location, Store};

mod concurrent;
mod crash;
mod delta;
mod kill;
mod losing;
mod lost;
mod readers;
pub mod role;
mod s3;
mod storage;
mod views;

/// A store below `folder`, with one measure.
pub fn open(folder: &std::path::Path) -> Arc<Store> {
    open_at(&Location::parse("file:store", folder).expect("a folder"))
}

fn open_at(location: &Location) -> Arc<Store> {
    Store::open(location, &["requests".to_owned()]).expect("a store")
}

/// The rows of a statement, as a principal sees them at wall time `now`.
fn rows(store: &Arc<Store>, now: fn() -> i64, principal: &Principal, sql: &str) -> Vec<RecordBatch> {
    let tables = table_source(Arc::clone(store), now)(principal);
    let context = SessionContext::new();
    for (name, provider) in tables.providers {
        context.register_table(name, provider).expect("registered");
    }
    (tables.renew)();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let rows = runtime.block_on(async { context.sql(sql).await?.collect().await });
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// One number.
pub fn ask(store: &Arc<Store>, now: fn() -> i64, principal: &Principal, sql: &str) -> i64 {
    rows(store, now, principal, sql)[0].column(0).as_primitive::<Int64Type>().value(0)
}
