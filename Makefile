# make demo | test | bench | soak | install | uninstall
