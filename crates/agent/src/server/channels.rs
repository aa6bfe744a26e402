//! Several streams in one WebSocket: the first byte of a message is the number of its stream.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::json;

/// The subprotocols with a status at the end; v5 also says when a stream was closed.
pub(super) const V5: &str = "v5.channel.k8s.io";
pub(super) const V4: &str = "v4.channel.k8s.io";

pub(super) const OUTPUT: u8 = 1;
pub(super) const ERRORS: u8 = 2;
/// What became of the command, in the form of the API.
const STATUS: u8 = 3;

const INPUT: u8 = 0;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Input(Bytes),
    /// There is no more input.
    EndOfInput,
    /// Its terminal has this size.
    Resize {
        columns: u16,
        rows: u16,
    },
    /// Nothing that means anything here.
    Nothing,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

pub(super) fn read(mut message: Bytes) -> Said {
    if message.is_empty() {
        return Said::Nothing;
    }
    let rest = message.split_off(1);
    match (message.first(), rest) {
        (Some(&INPUT), rest) => Said::Input(rest),
        (Some(&CLOSE), rest) if rest.first() == Some(&INPUT) => Said::EndOfInput,
        (Some(&RESIZE), rest) => match serde_json::from_slice::<Size>(&rest) {
            Ok(Size { width, height }) => Said::Resize { columns: width, rows: height },
            Err(_) => Said::Nothing,
        },
        _ => Said::Nothing,
    }
}

pub(super) fn write(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(bytes.len().saturating_add(1));
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

/// How a command ended, as the last message of a connection.
pub(super) fn ended(exit_code: i32) -> Bytes {
    let status = match exit_code {
        0 => json!({"metadata": {}, "status": "Success"}),
        code => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
    };
    write(STATUS, status.to_string().as_bytes())
}

/// Why there was no command, or no word of its end.
pub(super) fn failed(message: &str) -> Bytes {
    let status = json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": message,
        "details": {"causes": [{"message": message}]},
    });
    write(STATUS, status.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn messages_of_clients_are_told_apart() {
        assert_eq!(read(Bytes::from_static(b"\0ls\n")), Said::Input(Bytes::from_static(b"ls\n")));
        assert_eq!(read(Bytes::from_static(b"\xff\0")), Said::EndOfInput);
        assert_eq!(read(Bytes::from_static(b"\xff\x01")), Said::Nothing);
        let resize = Bytes::from_static(b"\x04{\"Width\":120,\"Height\":40}");
        assert_eq!(read(resize), Said::Resize { columns: 120, rows: 40 });
        for odd in [&b""[..], b"\x04{}", b"\x09x"] {
            assert_eq!(read(Bytes::from_static(odd)), Said::Nothing);
        }
    }

    #[test]
    fn the_last_message_has_the_exit_code_where_kubectl_looks_for_it() {
        let status = |message: Bytes| -> Value {
            assert_eq!(message.first(), Some(&STATUS));
            serde_json::from_slice(&message[1..]).unwrap()
        };
        assert_eq!(status(ended(0))["status"], "Success");
        let failure = status(ended(7));
        assert_eq!(failure["reason"], "NonZeroExitCode");
        assert_eq!(failure["details"]["causes"], json!([{"reason": "ExitCode", "message": "7"}]));
        assert_eq!(status(failed("why"))["message"], "why");
    }
}
