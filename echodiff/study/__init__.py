"""The reader study: clinicians rate real and generated frames, blinded."""
