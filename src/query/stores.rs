//! The object stores of a session: those that its tables bring, and none of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{Result, plan_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use url::Url;

/// Knows what a table provider registers while it is scanned. DataFusion's own registry also knows the local disk.
#[derive(Debug, Default)]
pub(super) struct OwnStores(Mutex<HashMap<String, Arc<dyn ObjectStore>>>);

impl OwnStores {
    /// Scheme and host: what a store is known by.
    fn key(url: &Url) -> String {
        url[..url::Position::BeforePath].to_owned()
    }
}

impl ObjectStoreRegistry for OwnStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(OwnStores::key(url), store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match stores.get(&OwnStores::key(url)) {
            Some(store) => Ok(Arc::clone(store)),
            None => plan_err!("no file and no address can be read here"),
        }
    }
}
