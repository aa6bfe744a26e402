//! What CNI says on standard input, in the environment, and on standard output. Spec 1.1.0, and 0.3.0 to 1.0.0.

mod conf;
mod environment;
mod error;
mod result;
mod version;

pub use conf::{Attachment, ConfError, NetConf, NetConfList, is_valid_name};
pub use environment::{Command, Environment};
pub use error::{Error, code};
pub use result::{AddResult, Dns, Interface, Ip, Route};
pub use version::{SUPPORTED, Version, VersionResult};
