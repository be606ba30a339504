//! What is kept of handing an incident over to people: what its ticket rests on, and what was proposed.

use super::Book;
use crate::incident::ProposalNote;
use crate::incident::witness::Witness;

impl Book {
    /// What the logs say. It is heard once: the ticket that was written from it stays as it is.
    pub fn witness(&mut self, id: &str, witness: Witness) {
        let Some(incident) = self.incidents.get_mut(id).filter(|incident| incident.witness.is_none()) else { return };
        incident.witness = Some(Box::new(witness));
        self.written(id);
    }

    /// What became of a proposal. It is made once.
    pub fn proposed(&mut self, id: &str, note: ProposalNote) {
        let Some(incident) = self.incidents.get_mut(id).filter(|incident| incident.proposal.is_none()) else { return };
        incident.proposal = Some(Box::new(note));
        self.written(id);
    }
}
