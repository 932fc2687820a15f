//! Frames on the socket: a little-endian `u32` length, then that many bytes of postcard.

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::protocol::FRAME_BYTES_MAX;

/// The most memory that a length alone gets, in bytes; nearly all frames are shorter.
const ROOM_BYTES_MAX: usize = 16 * 1024;

/// A frame that cannot be understood. The stream cannot be continued after it.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed or ended within a frame.
    #[error("the socket failed")]
    Io(#[from] io::Error),
    /// The length is beyond what either side sends.
    #[error("a frame of {0} bytes is longer than the {FRAME_BYTES_MAX} allowed")]
    TooLong(u32),
    /// The bytes are no message of this protocol.
    #[error("a frame is no message")]
    Malformed(#[source] postcard::Error),
}

/// Appends a message as a frame.
///
/// # Errors
/// [`FrameError::TooLong`] when the message is longer than a frame may be; nothing is appended then.
pub fn encode(message: &impl Serialize, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    let body = postcard::to_allocvec(message).map_err(FrameError::Malformed)?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&body);
    Ok(())
}

/// Reads the body of a frame as a message.
///
/// # Errors
/// [`FrameError::Malformed`], also when bytes are left over.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (message, rest) = postcard::take_from_bytes(body).map_err(FrameError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(FrameError::Malformed(postcard::Error::DeserializeBadEncoding)) }
}

/// Reads one message from a blocking socket; `None` when the other side closed it between frames.
///
/// # Errors
/// [`FrameError`].
pub fn read<T: DeserializeOwned>(socket: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = checked(length)?;
    let mut body = Vec::with_capacity(room(length));
    socket.take(u64::from(length)).read_to_end(&mut body)?;
    complete(&body, length)?;
    decode(&body).map(Some)
}

/// Reads one message; `None` when the other side closed the socket between frames.
///
/// # Errors
/// [`FrameError`].
pub async fn read_async<T: DeserializeOwned>(socket: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let length = checked(length)?;
    let mut body = Vec::with_capacity(room(length));
    socket.take(u64::from(length)).read_to_end(&mut body).await?;
    complete(&body, length)?;
    decode(&body).map(Some)
}

/// What is set aside for a body before any of it came: as it says, unless it says much.
fn room(length: u32) -> usize {
    (length as usize).min(ROOM_BYTES_MAX)
}

fn checked(length: [u8; 4]) -> Result<u32, FrameError> {
    let length = u32::from_le_bytes(length);
    if length > FRAME_BYTES_MAX { Err(FrameError::TooLong(length)) } else { Ok(length) }
}

fn complete(body: &[u8], length: u32) -> Result<(), FrameError> {
    if body.len() == length as usize { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{FromEngine, PromptInput, ToEngine};
    use allerac_engine_core::RequestId;
    use proptest::prelude::*;

    #[test]
    fn a_message_comes_back_as_it_went() {
        let message = ToEngine::Prepare { id: RequestId(7), input: PromptInput::Text("größe".into()), grammar: None };
        let mut buffer = Vec::new();
        encode(&message, &mut buffer).unwrap();
        encode(&ToEngine::Shutdown, &mut buffer).unwrap();
        let mut socket = buffer.as_slice();
        assert_eq!(read::<ToEngine>(&mut socket).unwrap(), Some(message));
        assert_eq!(read::<ToEngine>(&mut socket).unwrap(), Some(ToEngine::Shutdown));
        assert_eq!(read::<ToEngine>(&mut socket).unwrap(), None);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let mut socket: &[u8] = &[0xFF; 12];
        assert!(matches!(read::<ToEngine>(&mut socket), Err(FrameError::TooLong(u32::MAX))));
    }

    #[test]
    fn a_frame_cut_short_is_an_error() {
        let mut buffer = Vec::new();
        encode(&ToEngine::Cancel(RequestId(9)), &mut buffer).unwrap();
        buffer.pop();
        assert!(matches!(read::<ToEngine>(&mut buffer.as_slice()), Err(FrameError::Io(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<ToEngine>(&bytes);
            let _ = decode::<FromEngine>(&bytes);
            let _ = read::<FromEngine>(&mut bytes.as_slice());
        }
    }
}
