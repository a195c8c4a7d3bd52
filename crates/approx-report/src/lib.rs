//! What a sweep came to, as one page to look at and as pictures.
//!
//! | module | what |
//! |---|---|
//! | [`data`] | [`SweepData`]: all that a page shows |
//! | [`page`] | the page: HTML without scripts, which refers to nothing outside of it |
//! | [`plots`] | a sweep's pictures |
//! | [`xy`] | [`XyPlot`]: lines and points over two axes, linear or logarithmic |
//! | [`boxes`] | distributions as boxes |
//! | [`picture`] | [`Picture`]: SVG for a page or for a file |
//! | [`axis`] | ends and numbers of an axis |
//! | [`palette`] | colours for light and dark backgrounds |
//! | [`html`] | escaping |
//! | [`machine`] | what ran it |
//!
//! ```
//! use approx_report::{Axis, Colour, Scale, Series, XyPlot};
//!
//! let front = vec![(209.0, 98.7), (228.0, 99.4), (247.0, 99.8)];
//! let labels = vec!["10".to_owned(), "11".to_owned(), "12".to_owned()];
//! let plot = XyPlot::new(Axis::new("levels", Scale::Whole), Axis::new("agreement (%)", Scale::Linear))
//!     .with(Series::new("one alpha", Colour::series(0), front).with_labels(labels))
//!     .with_baseline("exact", 100.0);
//! let picture = plot.draw("Agreement against depth")?;
//! assert!(picture.file().starts_with("<svg xmlns="));
//! # Ok::<(), approx_report::ReportError>(())
//! ```

#![forbid(unsafe_code)]

pub mod axis;
pub mod boxes;
pub mod data;
pub mod error;
pub mod html;
pub mod machine;
pub mod page;
pub mod palette;
pub mod picture;
pub mod plots;
pub mod xy;

pub use axis::{Axis, Scale};
pub use data::{NetworkData, SignError, SweepData};
pub use error::{ReportError, Result};
pub use machine::Machine;
pub use palette::Colour;
pub use picture::Picture;
pub use xy::{Series, XyPlot};
