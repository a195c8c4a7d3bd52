//! Pictures in files of their own, decoded when they are asked for.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::error::{DataError, Result};
use crate::preprocess::Preprocess;
use crate::source::{ImageSource, OnCorrupt, RawBatch, identify_file};

/// Picture files with their labels.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    files: Vec<(PathBuf, u16)>,
    classes: usize,
    preprocess: Preprocess,
    on_corrupt: OnCorrupt,
}

impl ImageFiles {
    /// Files and the class of each.
    ///
    /// # Panics
    /// If a label is `classes` or more.
    pub fn new(
        files: Vec<(PathBuf, u16)>,
        classes: usize,
        preprocess: Preprocess,
        on_corrupt: OnCorrupt,
    ) -> Self {
        assert!(files.iter().all(|&(_, label)| usize::from(label) < classes), "a label is out of range");
        Self { files, classes, preprocess, on_corrupt }
    }

    /// The files with their labels.
    pub fn files(&self) -> &[(PathBuf, u16)] {
        &self.files
    }

    /// The same without all images but the first `limit`.
    #[must_use]
    pub fn truncated(mut self, limit: usize) -> Self {
        self.files.truncate(limit);
        self
    }
}

impl ImageSource for ImageFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn shape(&self) -> [usize; 3] {
        self.preprocess.shape()
    }

    fn load(&self, range: Range<usize>) -> Result<RawBatch> {
        let load = |(path, label): &(PathBuf, u16)| {
            let bytes = fs::read(path).map_err(|source| DataError::Io { path: path.clone(), source });
            let image = |bytes: Vec<u8>| self.preprocess.image(&path.display().to_string(), &bytes);
            (*label, bytes.and_then(image))
        };
        let images: Vec<_> = self.files[range].par_iter().map(load).collect();
        RawBatch::collect(images, self.on_corrupt)
    }

    fn identify(&self, consume: &mut dyn FnMut(&[u8])) -> Result<()> {
        consume(format!("{:?} {:?}\n", self.preprocess, self.on_corrupt).as_bytes());
        for (path, label) in &self.files {
            consume(&label.to_le_bytes());
            identify_file(path, consume)?;
        }
        Ok(())
    }
}
