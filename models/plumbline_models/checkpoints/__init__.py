"""Where weights come from and how they are read: architectures, tags, files, hub; checked before they are used."""
