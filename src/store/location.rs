//! Where a store is: a folder of this machine, or a bucket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::prefix::PrefixStore;
use url::Url;

use super::StoreError;
use super::durable::DurableFolder;
use crate::model::schema::StoreTable;

/// A place for tables, reachable or not.
#[derive(Clone, Debug)]
pub struct Location {
    root: Arc<dyn ObjectStore>,
    url: Url,
}

impl Location {
    /// Understands `file:PATH` (relative to `folder`; created if missing) and `s3://BUCKET/PREFIX`, whose endpoint,
    /// region and credentials come from the usual `AWS_…` variables.
    pub fn parse(text: &str, folder: &Path) -> Result<Location, StoreError> {
        let refuse = |reason: String| StoreError::Location { url: text.to_owned(), reason };
        match text.split_once(':') {
            Some(("file", path)) => Self::local(&folder.join(path.strip_prefix("//").unwrap_or(path)))
                .map_err(|error| refuse(format!("the folder cannot be made ({error})"))),
            Some(("s3", _)) => {
                let url = Url::parse(&format!("{}/", text.trim_end_matches('/')))
                    .map_err(|error| refuse(error.to_string()))?;
                let bucket = url.host_str().ok_or_else(|| refuse("it names no bucket".to_owned()))?;
                let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
                let root = Arc::new(store.map_err(|error| refuse(error.to_string()))?);
                Ok(Location { root, url })
            }
            _ => Err(refuse("write \"file:PATH\" or \"s3://BUCKET/PREFIX\"".to_owned())),
        }
    }

    /// Like [`Location::parse`], but a folder that is not there is an error.
    pub fn existing(text: &str, folder: &Path) -> Result<Location, StoreError> {
        if let Some(path) = text.strip_prefix("file:")
            && !folder.join(path.strip_prefix("//").unwrap_or(path)).is_dir()
        {
            let reason = "there is no such folder".to_owned();
            return Err(StoreError::Location { url: text.to_owned(), reason });
        }
        Self::parse(text, folder)
    }

    /// The same place, reached through what `wrap` makes of the storage: so a test can let storage fail.
    pub fn through(self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Location {
        Location { root: wrap(self.root), url: self.url }
    }

    fn local(path: &PathBuf) -> std::io::Result<Location> {
        std::fs::create_dir_all(path)?;
        let url = Url::from_directory_path(path.canonicalize()?);
        let url = url.map_err(|()| std::io::Error::other("it is not an absolute path"))?;
        Ok(Location { root: Arc::new(DurableFolder::default()), url })
    }

    /// A table's folder, with the log of its versions. Commits are puts that fail if the file is there, which both kinds
    /// of storage know.
    pub(super) fn table(&self, table: StoreTable) -> Result<LogStoreRef, StoreError> {
        let refuse = |reason: String| StoreError::Location { url: self.url.to_string(), reason };
        let url = self.url.join(&format!("{}/", table.name())).map_err(|error| refuse(error.to_string()))?;
        let prefix = object_store::path::Path::from_url_path(url.path()).map_err(|error| refuse(error.to_string()))?;
        let folder = Arc::new(PrefixStore::new(Arc::clone(&self.root), prefix));
        Ok(default_logstore(folder, Arc::clone(&self.root), &url, &StorageConfig::default()))
    }
}
