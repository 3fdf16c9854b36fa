//! Where an archive lies: a folder, or a bucket of a store that speaks S3.
//!
//! Shape: names below the dataflow's own place in, bytes out, and back.
//!
//! Invariants: a file is there as a whole or not at all; what was written is on the disk, or the
//! store has confirmed it, when `write` and `create` return; of several who create one name one
//! does.
//!
//! Not here: what files mean.

use std::{
    fs::DirBuilder,
    hash::{BuildHasher, Hasher, RandomState},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt;

use crate::config::{ArchiveConfig, ConfigError};

/// How long a store may take for one question.
const PATIENCE: Duration = Duration::from_secs(30);

/// A dataflow's place in an archive.
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// `None` once it is dropped.
    runtime: Option<Runtime>,
    /// Where the archive lies, for people.
    place: String,
    below: Path,
}

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub path: String,
    /// When it was written, in ms since 1970, by the store's clock.
    pub written_ms: i64,
}

/// Why a store fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error(
        "cannot open archive \"{place}\": {cause}; name a folder, or s3://bucket/prefix with \
         archive.options"
    )]
    Unusable {
        /// Where it is to lie.
        place: String,
        /// What is wrong.
        cause: String,
    },
    /// A file cannot be read, written or removed.
    #[error("cannot {what} \"{path}\" in archive \"{place}\"; look whether it can be reached")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: String,
        /// Where the archive lies.
        place: String,
        /// What the store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// A secret of the configuration is not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Whatever a store that does not answer still holds up, nobody waits for it.
impl Drop for Store {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} in {:?})", self.below, self.place)
    }
}

impl Store {
    /// Opens the place of a dataflow; a folder is made where there is none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(config: &ArchiveConfig, dataflow: &str) -> Result<Store, StoreError> {
        let place = config.place.clone();
        let unusable = |cause: String| StoreError::Unusable { place: config.place.clone(), cause };
        let options = config.resolve()?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| unusable(error.to_string()))?;
        let (objects, prefix): (Arc<dyn ObjectStore>, Path) = match place.contains("://") {
            false => {
                let folder = PathBuf::from(&place);
                // What it holds is of people.
                let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
                made.map_err(|error| unusable(error.to_string()))?;
                let objects = LocalFileSystem::new_with_prefix(folder);
                let objects = objects.map_err(|error| unusable(error.to_string()))?;
                (Arc::new(objects.with_fsync(true)), Path::default())
            }
            true => {
                let bucket_and_prefix = place.strip_prefix("s3://").filter(|rest| !rest.is_empty());
                let named =
                    bucket_and_prefix.map(|rest| rest.split_once('/').unwrap_or((rest, "")));
                let Some((bucket, prefix)) = named else {
                    return Err(unusable("this is neither a folder nor s3://bucket".to_owned()));
                };
                let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
                for (name, value) in options {
                    let key = name.parse::<AmazonS3ConfigKey>();
                    let key = key.map_err(|_| unusable(format!("there is no option {name}")))?;
                    builder = builder.with_config(key, value);
                }
                let objects = builder.build().map_err(|error| unusable(error.to_string()))?;
                let prefix = Path::parse(prefix).map_err(|error| unusable(error.to_string()))?;
                (Arc::new(objects), prefix)
            }
        };
        let below = prefix.join(dataflow);
        Ok(Store { objects, runtime: Some(runtime), place, below })
    }

    /// Where it lies, for people.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What a file holds; `None` where there is none.
    ///
    /// # Errors
    /// When that cannot be said.
    pub fn read(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let at = self.at(path);
        let asked = self.run(async { self.objects.get(&at).await?.bytes().await });
        match asked {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", path, error)),
        }
    }

    /// Writes a file.
    ///
    /// # Errors
    /// When it may not stand there.
    pub fn write(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let at = self.at(path);
        let written = self.run(self.objects.put(&at, bytes.into()));
        written.map(drop).map_err(|error| self.failed("write", path, error))
    }

    /// Writes a file, if none of its name is there; whether it did.
    ///
    /// # Errors
    /// When it may not stand there, or the store cannot tell.
    pub fn create(&self, path: &str, bytes: Bytes) -> Result<bool, StoreError> {
        let at = self.at(path);
        let options = PutMode::Create.into();
        match self.run(self.objects.put_opts(&at, bytes.into(), options)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.failed("create", path, error)),
        }
    }

    /// Shows that the store creates a file only where none of its name is, on which manifests rest.
    ///
    /// # Errors
    /// When it does not, or cannot be asked.
    pub fn prove(&self) -> Result<(), StoreError> {
        let path = format!("probe/{:016x}", RandomState::new().build_hasher().finish());
        let probe = || self.create(&path, Bytes::from_static(b"probe"));
        // Of the first one it may be said that it is there, where its answer was lost.
        probe()?;
        let again = probe()?;
        self.remove(&path)?;
        match again {
            false => Ok(()),
            true => Err(StoreError::Unusable {
                place: self.place.clone(),
                cause: "it replaces an object of which one asks that it be created only where \
                        there is none (If-None-Match: *)"
                    .to_owned(),
            }),
        }
    }

    /// The files in a folder and below it, in the order of their names.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn list(&self, folder: &str) -> Result<Vec<Found>, StoreError> {
        let at = self.at(folder);
        let below = format!("{}/", self.below);
        let listed = self.run(async {
            let mut found = Vec::new();
            let mut listing = self.objects.list(Some(&at));
            while let Some(object) = listing.next().await {
                let object = object?;
                let path = object.location.as_ref();
                found.push(Found {
                    path: path.strip_prefix(&below).unwrap_or(path).to_owned(),
                    written_ms: object.last_modified.timestamp_millis(),
                });
            }
            Ok(found)
        });
        let mut found = listed.map_err(|error| self.failed("list", folder, error))?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Removes a file; that it is gone already is as good.
    ///
    /// # Errors
    /// When it may still stand there.
    pub fn remove(&self, path: &str) -> Result<(), StoreError> {
        let at = self.at(path);
        match self.run(self.objects.delete(&at)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", path, error)),
        }
    }

    fn at(&self, path: &str) -> Path {
        path.split('/')
            .filter(|part| !part.is_empty())
            .fold(self.below.clone(), |at, part| at.join(part))
    }

    fn run<T>(
        &self,
        question: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let patiently = async { tokio::time::timeout(PATIENCE, question).await };
        let runtime = self.runtime.as_ref().expect("it is there until it is dropped");
        runtime.block_on(patiently).unwrap_or_else(|error| {
            Err(object_store::Error::Generic { store: "archive", source: Box::new(error) })
        })
    }

    fn failed(&self, what: &'static str, path: &str, source: object_store::Error) -> StoreError {
        let source = Box::new(source);
        StoreError::Failed { what, path: path.to_owned(), place: self.place.clone(), source }
    }
}
