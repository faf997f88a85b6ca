//! Runtimes of agents behind one trait.
//!
//! A runtime joins the mesh by implementing [`AgentProvider`] and being put into the [`Registry`]. The trait and its
//! types carry no bus and no HTTP; they use the domain words of `bus-schema` (session, message, capability) and
//! nothing else of it.

mod acp;
pub mod clock;
pub mod conformance;
pub mod docker;
pub mod echo;
#[doc(hidden)]
pub mod fuzzing;
pub mod openclaw;
pub mod process;
mod profile;
mod provider;
pub mod pty;
mod registry;

pub use docker::{DockerConfig, DockerProvider};
pub use openclaw::{OpenClawConfig, OpenClawGateway, OpenClawProvider};
pub use profile::{ContainerLimits, Profile, ProfileError, Protocol, StopRule};
pub use provider::{
    AgentEvent, AgentProvider, Appeared, Child, DeltaDraft, End, EventStream, InjectOutcome, MessageDraft, News,
    OperatorMessage, Position, ProviderError, ProviderHealth, SessionInfo, SpawnRequest, TerminalPiece,
};
pub use pty::{PtyConfig, PtyProvider};
pub use registry::{Aggregate, Registry, RegistryError};
