//! Storage that does what a test says: it fails, or does its work and then says that it failed.

use std::fmt;
use std::path::Path as Folder;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use maturion::store::Location;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// What a test is asked about, with the path from the root.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    Read(&'a str),
    Write(&'a str),
}

impl Call<'_> {
    /// True of a write into a table's folder, whose path ends in `suffix`.
    pub fn writes(self, table: &str, suffix: &str) -> bool {
        matches!(self, Call::Write(path) if path.contains(&format!("/{table}/")) && path.ends_with(suffix))
    }

    /// True of a read in a table's folder.
    pub fn reads(self, table: &str) -> bool {
        matches!(self, Call::Read(path) if path.contains(&format!("/{table}/")))
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    Failed,
    /// It is done, and whoever asked for it hears that it failed.
    Unheard,
}

/// A store's place in a folder, whose calls end as `fates` says. It may take its time to say so.
pub fn faulty(folder: &Folder, fates: impl Fn(Call<'_>) -> Fate + Send + Sync + 'static) -> Location {
    let location = Location::parse("file:store", folder).expect("a folder");
    location.through(|inner| Arc::new(Faulty { inner, fates: Arc::new(fates) }))
}

type Fates = Arc<dyn Fn(Call<'_>) -> Fate + Send + Sync>;

struct Faulty {
    inner: Arc<dyn ObjectStore>,
    fates: Fates,
}

fn broken() -> Error {
    Error::Generic { store: "test", source: "it does not answer".into() }
}

/// Lets a call happen, or not, and be heard of, or not.
async fn meet<T>(fate: Fate, work: impl Future<Output = Result<T>>) -> Result<T> {
    match fate {
        Fate::Done => work.await,
        Fate::Failed => Err(broken()),
        Fate::Unheard => work.await.and_then(|_| Err(broken())),
    }
}

impl Faulty {
    fn read(&self, path: &Path) -> Fate {
        (self.fates)(Call::Read(path.as_ref()))
    }

    fn write(&self, path: &Path) -> Fate {
        (self.fates)(Call::Write(path.as_ref()))
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "faulty {:?}", self.inner)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        meet(self.write(location), self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultyUpload { upload, location: location.clone(), fates: Arc::clone(&self.fates) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        meet(self.read(location), self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, fates) = (Arc::clone(&self.inner), Arc::clone(&self.fates));
        let deleted = locations.then(move |location| {
            let (inner, fates) = (Arc::clone(&inner), Arc::clone(&fates));
            async move {
                let location = location?;
                meet(fates(Call::Write(location.as_ref())), inner.delete(&location)).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match prefix.map_or(Fate::Done, |prefix| self.read(prefix)) {
            Fate::Done => self.inner.list(prefix),
            Fate::Failed | Fate::Unheard => futures::stream::iter([Err(broken())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fate = prefix.map_or(Fate::Done, |prefix| self.read(prefix));
        meet(fate, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        meet(self.write(to), self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        meet(self.write(to), self.inner.rename_opts(from, to, options)).await
    }
}

struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    location: Path,
    fates: Fates,
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "faulty upload of {}", self.location)
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fate = (self.fates)(Call::Write(self.location.as_ref()));
        meet(fate, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
