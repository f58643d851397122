"""A raw set with the shape of LLaVA's 665K mix: same composition, image sizes and lengths, at any number of rows."""
