//! The `nft` program, for the one thing that is done without knowing what is there: removing another proxy's table.

use std::io;
use std::process::Command;

use switchyard_plan::IpFamily;
use thiserror::Error;

#[derive(Debug, Error)]
#[error("deleting nftables table {table}: {reason}")]
pub struct NftError {
    table: String,
    reason: String,
}

/// Deletes a table with all that is in it. No such table, and no such program, are no error.
pub fn delete_table(family: IpFamily, name: &str) -> Result<(), NftError> {
    let family = match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    };
    let table = format!("{family} {name}");
    let failed = |reason: String| NftError { table: table.clone(), reason };
    match Command::new("nft").args(["delete", "table", family, name]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            if text.contains("No such file or directory") {
                Ok(())
            } else {
                Err(failed(text.trim().to_owned()))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error.to_string())),
    }
}
