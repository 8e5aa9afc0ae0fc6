"""Every setting, declared once: type, default, range, meaning; checks, messages, help. Takes no torch."""
